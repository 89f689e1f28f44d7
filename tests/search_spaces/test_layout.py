from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.layout import block_choice, check_ascending, check_positive, check_stages, preset, rounded, texts
from search_spaces.space import Signature

PRESETS = {"digits": 8, "28": 28, "32": 32, "imagenet": 224}


@pytest.mark.parametrize("side, found", [(8, 8), (12, 8), (13, 28), (28, 28), (32, 32), (64, 32), (65, 224)])
def test_auto_goes_by_the_shorter_side(side: int, found: int) -> None:
    assert preset(PRESETS, "auto", Signature("image", (3, side + 10, side), 10)) == found


def test_a_name_is_taken_as_given() -> None:
    assert preset(PRESETS, "28", Signature("image", (3, 224, 224), 10)) == 28


@pytest.mark.parametrize(
    "name, signature, message",
    [
        ("29", Signature("image", (3, 32, 32), 10), "preset='29' is unknown; there are auto, digits, 28, 32, imagenet"),
        ("auto", Signature("sequence", (128,), 10), "needs images"),
        ("auto", Signature("image", (32, 32), 10), "needs images"),
        ("auto", Signature("image", (3, 0, 32), 10), "needs images"),
        ("auto", Signature("image", (3, 32, 32), 0), "needs images"),
    ],
)
def test_what_fits_no_preset_is_refused(name: str, signature: Signature, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preset(PRESETS, name, signature)


@pytest.mark.parametrize("values", [(), (0, 1), (1, 1), (2, 1), (-1.0,), (float("nan"),), (1, float("nan"))])
def test_options_must_ascend_from_above_zero(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="widths="):
        check_ascending("widths", values)


def test_sensible_options_pass() -> None:
    check_ascending("x", (0.25, 1, 2))
    check_positive("x", (3, 1, 3))
    check_stages(a=(1, 2), b=("x", "y"))


def test_stages_must_be_as_many_everywhere() -> None:
    with pytest.raises(ValueError, match="2 in widths, 3 in strides"):
        check_stages(widths=(1, 2), strides=(1, 2, 2))
    with pytest.raises(ValueError, match="0 in widths"):
        check_stages(widths=())
    with pytest.raises(ValueError, match="strides="):
        check_positive("strides", (1, 0))


@given(st.floats(0.01, 4000), st.sampled_from([1, 4, 8]))
def test_rounded_is_a_near_multiple(channels: float, divisor: int) -> None:
    found = rounded(channels, divisor)
    assert found % divisor == 0 and found >= divisor
    assert 0.9 * channels <= found < channels + divisor


def test_rounded_by_hand() -> None:
    assert [rounded(c, 8) for c in (1, 12, 11.9, 33.6, 100)] == [8, 16, 16, 32, 104]
    assert [rounded(c, 1) for c in (0.2, 1.5, 2.49)] == [1, 2, 3]


def test_blocks_apply_in_stages_deep_enough() -> None:
    assert texts((0.25, 1.0, 2)) == ("0.25", "1", "2")
    assert block_choice(1, 1, "kernel", (3, 5), (1, 2, 3)).when == ()
    third = block_choice(2, 3, "kernel", (3, 5), (1, 2, 3, 4))
    assert third.name == "stage2.block3.kernel" and third.when == (("stage2.depth", frozenset({"3", "4"})),)
