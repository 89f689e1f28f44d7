from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from nascli import plugins
from nascli.cli import scoreboard
from nascli.cli.scoreboard import print_best, print_figures, print_made, print_proxies, proxies
from nascli.report.ranking import figures
from tests.toy_board import DEAD, NAN, board, reached
from tests.toy_runs import ROOT


def test_every_proxy_says_what_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    found = {f["proxy"]: f for f in proxies()}
    assert list(found) == plugins.names("proxy")
    assert found["gradsign"] == {
        "proxy": "gradsign",
        "goal": "max",
        "cost": 1.5,
        "needs": "labels",
        "passes": ["per_example"],
        "paper": "Zhang & Jia 2022, arXiv:2110.08616",
    }
    assert not [f for f in found.values() if f["paper"].startswith("broken")]
    print_proxies(as_json=False)
    out, _ = capfd.readouterr()
    assert out.splitlines()[0].split("\t") == ["proxy", "goal", "cost", "needs", "passes", "paper"]
    assert "gradsign\tmax\t1.5\tlabels\tper_example\tZhang & Jia 2022, arXiv:2110.08616" in out.splitlines()
    print_proxies(as_json=True)
    document = json.loads(capfd.readouterr().out)
    assert document["command"] == "score" and document["data"] == list(found.values())


def test_the_docs_have_the_table_of_proxies() -> None:
    page = (ROOT / "docs" / "scoring.md").read_text(encoding="utf-8")
    rows = [
        f"| `{f['proxy']}` | {f['goal']} | {f['needs']} | {f['cost']:g} | {', '.join(f['passes'])} | {f['paper']} |"
        for f in proxies()
    ]
    lacking = [row for row in rows if row not in page]
    assert lacking == [], "docs/scoring.md lacks or misstates:\n" + "\n".join(lacking)


def test_a_broken_proxy_is_a_line_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins._table("proxy"), "lost", "no.such:Proxy")
    (lost,) = [f for f in proxies() if f["proxy"] == "lost"]
    assert lost["paper"].startswith("broken: proxy 'lost': there is no module 'no.such'")


class Made:
    """What came of a run of three networks."""

    leader = "jacov"

    def __init__(self, truth: bool, best: int = 2) -> None:
        known = reached([90, 80, 70])
        self.board = board({"jacov": [3, NAN, 1], "params": [1000, 2000, 3000]}, known if truth else None)
        rows = np.ones(3, dtype=bool)
        self.figures = figures(self.board, known, rows, k=2, rng=lambda: np.random.default_rng(0))
        self._best = best

    def best(self) -> list[dict[str, Any]]:
        rows = [{"arch": "a:1", "field": "|1|", "measured": "a:1", "jacov": 3.0, "params": 1000.0, "accuracy": 90.0}]
        return (rows * 2)[: self._best]


def test_figures_are_a_row_a_score(capfd: pytest.CaptureFixture[str]) -> None:
    print_figures(Made(truth=True).figures, title="held against accuracy")
    heads, *rows = [line.split("\t") for line in capfd.readouterr().out.splitlines()]
    assert heads[:3] == ["score", "rho", "95 %"] and "regret@2" in heads and "nDCG@2" in heads
    jacov, params = (dict(zip(heads, row, strict=True)) for row in rows)
    assert jacov["score"] == "jacov" and jacov["rho"] == "1" and jacov["regret@2"] == "0"
    assert [jacov[h] for h in ("networks", "scored", "dead", "failed", "distinct")] == ["3", "2", "1", "0", "2"]
    assert params["rho"] == "-1" and params["rho with params"] == "1" and params["rho beyond params"] == ""
    assert rows[0][2] == "1.000 to 1.000"


def test_the_best_stand_by_their_leader_as_their_field_writes_them(capfd: pytest.CaptureFixture[str]) -> None:
    print_best(Made(truth=True).best(), "jacov")
    heads, first, second = [line.split("\t") for line in capfd.readouterr().out.splitlines()]
    assert heads == ["place", "jacov", "params", "accuracy", "network"]
    assert first == ["1", "3", "1,000", "90", "|1|"] and second[0] == "2"


def test_figures_come_only_with_something_to_hold_against(capfd: pytest.CaptureFixture[str]) -> None:
    print_made(Made(truth=True))
    out, err = capfd.readouterr()
    assert out.startswith("score\t") and "\n\nplace\tjacov" in out
    assert err == f"score: 1 of 3 networks have no jacov: {DEAD}\n"
    print_made(Made(truth=False))
    assert capfd.readouterr().out.startswith("place\tjacov")
    print_made(Made(truth=False, best=0))
    assert capfd.readouterr().out == ""
    assert scoreboard._interval(None) == ""
