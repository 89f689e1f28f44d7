from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nascli.compressors.sweep import Sweep
from nascli.engine.drive import Budget, drive
from nascli.engine.executors import inline
from nascli.engine.network import Network
from nascli.engine.objectives import MACS, PARAMS
from nascli.engine.protocol import Step, Trial
from nascli.engine.runs import Run
from nascli.engine.task import Task
from nascli.engine.writer import Writer
from nascli.errors import DataError, Interrupted, RunError, SettingsError
from tests.toy_compress import HALVE, NOTHING, ZEROS, Halve, Narrow, checkpoint, net, sweep_task
from tests.toy_images import same

# As more parameters are better here, all networks are on the front.
TASK = replace(sweep_task(), objectives=(MACS, replace(PARAMS, goal="max")))


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(str(checkpoint(tmp_path)), compressors=(HALVE,), levels=(0.25, 0.5))


def steps(sweep: Sweep, state: Mapping[str, Any] | None = None, task: Task = TASK) -> list[Step]:
    """All steps of a sweep whose candidates are answered without being measured."""
    found: list[Step] = []
    search = sweep.search(task, state)
    reply: list[Trial] | None = None
    while True:
        try:
            step = next(search) if reply is None else search.send(reply)
        except StopIteration:
            return found
        # As a run would save it, at once.
        if step.state is not None:
            held = io.BytesIO()
            torch.save(step.state(), held)
            held.seek(0)
            kept = torch.load(held, weights_only=True)
            step = replace(step, state=lambda kept=kept: kept)
        found.append(step)
        reply = [Trial(0, n.key, n, {}) for n in step.candidates]


def networks(found: list[Step]) -> list[Network]:
    return [network for step in found for network in step.candidates]


def test_the_network_comes_first_as_it_is_and_then_at_every_level(sweep: Sweep) -> None:
    dense, quarter, half = networks(steps(sweep))
    assert [n.tag for n in (dense, quarter, half)] == ["dense", "Halve-macs0.25", "Halve-macs0.5"]
    assert dense.edits == () and [len(n.edits[0].channels) for n in (quarter, half)] == [2, 4]  # type: ignore[attr-defined]
    with torch.no_grad():
        stored = net()
        stored.load_state_dict(torch.load(sweep.checkpoint, weights_only=True)["state_dict"])
        image = torch.randn(2, 1, 4, 4)
        assert torch.equal(dense.build(TASK.space).eval()(image), stored.eval()(image))
    assert set(half.edits[0].channels) > set(quarter.edits[0].channels)  # type: ignore[attr-defined]


def test_what_is_told_says_where_the_sweep_stands(sweep: Sweep) -> None:
    told = [step.metrics for step in steps(sweep) if step.metrics]
    assert [m["level"] for m in told] == [0.25] * 7 + [0.5] * 5 and {m["network"] for m in told} == {0.0}
    assert [m["kept"] for m in told if "kept" in m] == [7, 6, 5, 4, 3, 2, 7, 6, 5, 4]
    progress = [m["progress"] for m in told]
    assert progress == sorted(progress) and progress[2] == 0.25 and progress[6] == 0.5 and progress[-1] == 1.0


def test_compressors_in_a_row_work_on_what_the_one_before_has_left(sweep: Sweep) -> None:
    found = steps(replace(sweep, compressors=(HALVE, ZEROS), levels=(0.5,), of="groups"))
    _, both = networks(found)
    assert both.tag == "Halve-groups0.5+Zeros-groups0.5" and len(both.edits) == 1
    assert int((both.tensors["8.weight"] == 0).sum()) == 12  # type: ignore[index]
    (between,) = [s for s in found if s.metrics and not s.candidates and "kept" not in s.metrics]
    assert between.metrics["progress"] == 0.5


@pytest.mark.parametrize("compressors", [(HALVE,), (HALVE, HALVE), (ZEROS, HALVE), (HALVE, ZEROS, HALVE)])
def test_it_goes_on_from_any_state_as_if_nothing_had_been(sweep: Sweep, compressors: tuple[str, ...]) -> None:
    sweep = replace(sweep, compressors=compressors)
    whole = steps(sweep)
    stops = [k for k, step in enumerate(whole) if step.state is not None]
    assert len(stops) > 5
    for k in stops:
        state = whole[k].state
        assert state is not None
        rest = steps(sweep, state())
        assert [n.tag for n in networks(rest)[:1]] == ["dense"]
        assert len(rest[1:]) == len(whole[k + 1 :])
        for one, other in zip(rest[1:], whole[k + 1 :], strict=True):
            assert dict(one.metrics) == dict(other.metrics)
            assert [n.key for n in one.candidates] == [n.key for n in other.candidates]
            assert same(
                [dict(n.tensors or {}) for n in one.candidates], [dict(n.tensors or {}) for n in other.candidates]
            )
            assert (one.state is None) == (other.state is None)
            assert one.state is None or same(dict(one.state()), dict(other.state()))  # type: ignore[misc]


def test_what_came_before_in_a_row_is_not_made_again(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = replace(sweep, compressors=(HALVE, ZEROS), levels=(0.5,))
    whole = steps(sweep)
    (between,) = [s for s in whole if s.metrics and not s.candidates and "kept" not in s.metrics]

    def refuse(*_: object) -> None:
        raise AssertionError("it was done already")

    monkeypatch.setattr(Halve, "compress", refuse)
    assert between.state is not None
    (_, again), (_, first) = networks(steps(sweep, between.state())), networks(whole)
    assert again.key == first.key and same(dict(again.tensors or {}), dict(first.tensors or {}))


def test_levels_may_be_added_and_what_was_begun_is_finished_first(sweep: Sweep) -> None:
    whole = steps(sweep)
    begun = next(s for s in whole if s.metrics.get("kept") == 5 and s.metrics["level"] == 0.25)
    assert begun.state is not None
    more = replace(sweep, levels=(0.75, 0.5, 0.25))
    assert [n.tag for n in networks(steps(more, begun.state()))] == [
        "dense", "Halve-macs0.25", "Halve-macs0.75", "Halve-macs0.5"]  # fmt: skip
    done = whole[-1]
    assert done.state is not None and done.metrics["progress"] == 1.0
    rest = steps(more, done.state())
    assert [n.tag for n in networks(rest)] == ["dense", "Halve-macs0.75"]
    assert rest[1].metrics["progress"] == pytest.approx((2 + 0.5) / 3)
    assert [n.tag for n in networks(steps(sweep, done.state()))] == ["dense"]


def test_a_step_without_state_or_metrics_stays_one(sweep: Sweep) -> None:
    (step,) = [s for s in steps(replace(sweep, compressors=(ZEROS,), levels=(0.5,))) if not s.candidates]
    assert step.metrics == {} and step.state is None


# -- runs --------------------------------------------------------------------------------------------------------------


def run(path: Path, sweep: Sweep, stop: Callable[[], bool] = lambda: False) -> Path:
    resolved = {"strategy": {"levels": list(sweep.levels)}}
    header = {"fingerprint": TASK.space.table.fingerprint}
    with Writer(path, command="compress", resolved=resolved, header=header) as writer:
        drive(sweep, TASK, writer, inline, budget=Budget(), stop=stop)
    return path


def journals(path: Path) -> list[bytes]:
    """Trials and steps, without the seconds."""
    texts = [(path / f"{name}.jsonl").read_bytes() for name in ("trials", "steps")]
    return [re.sub(rb'"seconds":[^,}]+', b"", text) for text in texts]


@pytest.mark.parametrize("compressors", [(HALVE,), (HALVE, ZEROS)])
def test_a_run_that_is_interrupted_everywhere_has_the_journal_of_one_that_was_not(
    sweep: Sweep, tmp_path: Path, compressors: tuple[str, ...]
) -> None:
    sweep = replace(sweep, compressors=compressors, levels=(0.75, 0.5))
    whole = journals(run(tmp_path / "whole", sweep))
    assert whole[0].count(b"\n") == 3
    for k in range(1, 40):
        path, asked = tmp_path / f"torn{k}", 0

        def stop(k: int = k) -> bool:
            nonlocal asked
            asked += 1
            return asked >= k

        try:
            run(path, sweep, stop)
        except Interrupted:
            run(path, sweep)
            assert journals(path) == whole, k
        else:
            assert asked < k and k > 12
            return
    raise AssertionError("the run never ended")


def test_a_crash_between_a_level_and_its_state_makes_it_anew_and_measures_it_never_again(
    sweep: Sweep, tmp_path: Path
) -> None:
    whole = journals(run(tmp_path / "whole", sweep))
    # Nothing was ever saved: all levels are made again, and all answers are there.
    run(tmp_path / "torn", sweep)
    (tmp_path / "torn" / "state.pt").unlink()
    before = (tmp_path / "torn" / "trials.jsonl").read_bytes()
    run(tmp_path / "torn", sweep)
    assert journals(tmp_path / "torn") == whole
    assert (tmp_path / "torn" / "trials.jsonl").read_bytes() == before


# -- where networks come from ------------------------------------------------------------------------------------------


def test_members_of_a_run_are_told_apart_by_their_numbers(sweep: Sweep, tmp_path: Path) -> None:
    first = run(tmp_path / "run", sweep)
    front = Run.open(first).front["members"]
    members = tuple(m["n"] for m in front if Run.open(first).has_network(m["n"]))
    again = Sweep(run=str(first), compressors=(ZEROS,))
    assert members == (1, 2, 0) and again.prefixes() == ["1-", "2-", "0-"]
    tags = [n.tag for n in networks(steps(again))]
    assert tags == [*(f"{n}-dense" for n in members), *(f"{n}-Zeros-macs0.5" for n in members)]
    one = replace(again, members=members[:1])
    assert [n.tag for n in networks(steps(one))] == ["dense", "Zeros-macs0.5"] and one.prefixes() == [""]
    dense = one.sources(TASK)[0]
    stored = Run.open(first).network(members[0], TASK.space)
    assert dense.edits == stored.edits and same(dict(dense.tensors or {}), dict(stored.tensors or {}))


def test_edits_of_a_member_stay_when_it_is_compressed_further(sweep: Sweep, tmp_path: Path) -> None:
    first = run(tmp_path / "run", replace(sweep, levels=(0.5,)))
    _, smaller = networks(steps(Sweep(run=str(first), members=(1,), compressors=(HALVE,))))
    assert [len(e.channels) for e in smaller.edits] == [4, 2]  # type: ignore[attr-defined]
    assert all(isinstance(e, Narrow) for e in smaller.edits)
    assert smaller.build(TASK.space)(torch.zeros(1, 1, 4, 4)).shape == (1, 4)


def test_what_cannot_be_compressed_is_refused(tmp_path: Path, sweep: Sweep) -> None:
    with pytest.raises(SettingsError, match="nothing to compress"):
        Sweep().sources(TASK)
    with pytest.raises(DataError, match="does not exist"):
        Sweep(str(tmp_path / "gone.pth")).sources(TASK)
    torch.save(torch.nn.Linear(2, 3).state_dict(), tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"no weights of this network: it has no '0.weight', but 'weight', which"):
        Sweep(str(tmp_path / "other.pth")).sources(TASK)
    first = run(tmp_path / "run", sweep)
    with pytest.raises(RunError, match="has no front member 77; it has 0, 1, 2"):
        Sweep(run=str(first), members=(77,)).sources(TASK)
    for file in (first / "networks").iterdir():
        file.unlink()
    with pytest.raises(RunError, match="has no front member with weights of its own; train one"):
        Sweep(run=str(first)).sources(TASK)


def test_a_member_without_weights_is_refused_by_name(tmp_path: Path, sweep: Sweep) -> None:
    first = run(tmp_path / "run", sweep)
    Run.open(first).network_path(0).with_suffix(".json").unlink()
    with pytest.raises(RunError, match="Member 0 of .* has no weights of its own; train it: nascli train"):
        Sweep(run=str(first), members=(0,)).sources(TASK)
    assert Sweep(run=str(first)).stored() == (1, 2)


def test_a_compressor_must_return_weights(sweep: Sweep) -> None:
    with pytest.raises(SettingsError, match="'tests.toy_compress:Nothing' returned no network with tensors"):
        steps(replace(sweep, compressors=(NOTHING,)))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"checkpoint": "a", "run": "b"}, "exclude each other"),
        ({"levels": ()}, "levels is empty"),
        ({"compressors": ()}, "compressors is empty"),
        ({"levels": (0.5, 1.0)}, "the level 1.0 must lie between 0 and 1"),
        ({"levels": (0.0,)}, "the level 0.0 must lie between 0 and 1"),
        ({"levels": (float("nan"),)}, "the level nan must lie"),
        ({"levels": (0.5, 0.5)}, "names one twice"),
        ({"members": (3, 3)}, "names one twice"),
    ],
)
def test_settings_that_mean_nothing(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Sweep(**values)


def test_the_description_of_the_state_is_what_json_would_hold(sweep: Sweep) -> None:
    found = steps(replace(sweep, compressors=(HALVE, ZEROS), levels=(0.5,)))
    states = [s.state() for s in found if s.state is not None]
    held = [s["begun"]["current"]["network"] for s in states if s["begun"] and s["begun"]["current"]]
    assert held and all(json.loads(json.dumps(h)) == h for h in held)
    assert held[0]["edits"][0]["edit"] == "tests.toy_compress:Narrow"
