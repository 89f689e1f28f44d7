import pytest

from nascli.compressors.protocol import Level


def test_a_level_says_what_it_is_a_share_of() -> None:
    assert str(Level(0.5)) == "macs0.5" and str(Level(0.25, "latency")) == "latency0.25"


@pytest.mark.parametrize("kept", [0.0, 1.0, -0.5, 1.5, float("nan")])
def test_a_level_is_a_share(kept: float) -> None:
    with pytest.raises(ValueError, match="share that is kept"):
        Level(kept)
