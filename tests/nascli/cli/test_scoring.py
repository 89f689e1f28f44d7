from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nascli.cli.scoring import DEFAULTS, PROXIES, brought, complete
from nascli.engine.runs import Run
from nascli.errors import RunFormatError, SettingsError
from nascli.settings import Layers


def settings(*, proxies: list[str], **values: Any) -> Layers:
    layers = Layers()
    for key, value in DEFAULTS.items():
        layers.put(key, value, origin="default")
    for key, value in values.items():
        layers.put(key.replace("__", "."), value, origin=f"--{key.partition('__')[2]}")
    return complete(layers, proxies)


def test_the_first_proxy_is_traded_against_size_and_the_others_are_recorded() -> None:
    layers = settings(proxies=["jacov", "params", "zico", "jacov"], space__name="resnet")
    assert layers.values["objectives"] == ["jacov", "params", "macs"] and layers.values["record"] == ["zico"]
    layers = settings(proxies=["params"], space__name="resnet")
    assert layers.values["objectives"] == ["params", "macs"] and layers.values["record"] == []


def test_what_nobody_named_is_scored_by_a_few_that_need_no_more_than_there_is() -> None:
    layers = settings(proxies=[], space__name="resnet", data__name="digits")
    assert [*layers.values["objectives"], *layers.values["record"]] == [PROXIES[0], "params", "macs", *PROXIES[1:]]
    assert settings(proxies=[], space__name="resnet").values["objectives"] == ["synflow", "params", "macs"]
    # What a settings file says stands.
    assert settings(proxies=[], objectives=["zico", "macs"]).values["objectives"] == ["zico", "macs"]


def test_set_beats_the_flag() -> None:
    layers = Layers({"strategy": {}})
    layers.assign("record=['latency_ms']")
    complete(layers, ["jacov", "zico"])
    assert layers.values["objectives"] == ["jacov", "params", "macs"] and layers.values["record"] == ["latency_ms"]


def test_what_the_report_needs_is_recorded() -> None:
    report = {"report__aggregate": ["log_rank:jacov,params,nwot"], "report__fit": "parzc", "report__train": 20}
    layers = settings(proxies=["jacov"], space__name="resnet", **report)
    assert layers.values["record"] == ["nwot", "nodes"]


def test_a_single_model_needs_no_list() -> None:
    assert settings(proxies=["synflow"], space__name="module").values["strategy"]["sample"] == 1
    listed = settings(proxies=["synflow"], space__name="module", strategy__archs=["module:it"]).values["strategy"]
    assert "sample" not in listed


def test_settings_that_make_no_sense_together() -> None:
    with pytest.raises(SettingsError, match=r"^--train needs a predictor to fit; give --fit parzc\.$"):
        settings(proxies=["synflow"], report__train=9)
    with pytest.raises(SettingsError, match="No proxy is called 'synflwo'. Did you mean 'synflow'?"):
        settings(proxies=["synflwo"], space__name="resnet")


def test_a_run_brings_its_space_its_networks_and_its_values(numbers: Path) -> None:
    found = brought(numbers)
    assert found["space.name"] == "tests.toys:ToySpace" and found["space.signature"]["classes"] == 3
    assert found["strategy.archs"] == [row["arch"] for row in Run.open(numbers).rows]
    assert found["report.against"] == found["parent"] == str(numbers)
    assert not [key for key in found if key.startswith("data.")]
    assert brought(None) == {}
    with pytest.raises(RunFormatError, match="is no run directory"):
        brought(Path())
