from __future__ import annotations

from pathlib import Path

from nascli.cli.flags import layered


def test_later_layers_lie_over_earlier_ones(tmp_path: Path) -> None:
    (one := tmp_path / "one.toml").write_text("seed = 1\ndevice = 'file'\n[budget]\nevaluations = 1\nseconds = 1\n")
    (two := tmp_path / "two.toml").write_text("[budget]\nevaluations = 2\n")
    layers = layered(
        defaults={"seed": 0, "calibration": 5},
        config=[one, two],
        flags={"--seed seed": 3, "--evaluations budget.evaluations": None, "--objective objectives": []},
        sets=["budget.seconds=9", "budget.note=a b"],
    )
    assert layers.values == {
        "seed": 3,
        "calibration": 5,
        "device": "file",
        "budget": {"evaluations": 2, "seconds": 9, "note": "a b"},
    }
    assert layers.origins["seed"] == "--seed" and layers.origins["calibration"] == "default"
    assert layers.origins["budget.evaluations"] == f"{two}:2"
    assert layers.origins["budget.seconds"] == "--set budget.seconds=9"


def test_zero_and_empty_text_are_values() -> None:
    layers = layered(defaults={}, config=None, flags={"--seed seed": 0, "--supernet supernet": ""}, sets=None)
    assert layers.values == {"seed": 0, "supernet": ""}
