from __future__ import annotations

from dataclasses import replace

import pytest

from search_spaces.mobile_layout import PRESETS, Layout

LAYOUT = Layout(
    stem=8,
    stem_stride=1,
    widths=(16, 32),
    strides=(1, 2),
    excite=(False, True),
    acts=("relu", "hswish"),
    depths=((1, 2),) * 2,
    kernels=(3, 5),
    expansions=(1, 3),
    multipliers=(0.5, 1),
    resolutions=(1,),
    head=32,
)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_describe_every_stage(name: str) -> None:
    layout = PRESETS[name]
    per_stage = (layout.widths, layout.strides, layout.excite, layout.acts, layout.depths)
    assert len({len(values) for values in per_stage}) == 1
    assert layout.excite[-1]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_no_two_options_of_the_same_width(name: str) -> None:
    layout = PRESETS[name]
    for s, outs in enumerate(layout.outs):
        assert len(set(outs)) == len(outs)
        for b in (0, 1):
            assert all(len(set(row)) == len(row) for row in layout.hidden(s, b))


def test_first_blocks_read_the_stage_before() -> None:
    assert LAYOUT.outs == ((8, 16), (16, 32))
    assert [LAYOUT.reads(s, b) for s in (0, 1) for b in (0, 1)] == [(8,), (8, 16), (8, 16), (16, 32)]
    assert LAYOUT.hidden(0, 0) == ((8, 24),)
    assert LAYOUT.hidden(1, 0) == ((8, 24), (16, 48))
    assert LAYOUT.squeezed(1, 1) == ((4, 12), (8, 24))


def test_counts_are_multiples_of_the_divisor() -> None:
    layout = replace(LAYOUT, divisor=8, multipliers=(0.65, 1))
    assert layout.outs == ((16, 16), (24, 32))
    assert layout.squeezed(1, 0) == ((8, 16), (8, 16))
