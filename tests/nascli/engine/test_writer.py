from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from nascli.engine import writer
from nascli.engine.runs import Run
from nascli.engine.writer import Writer
from nascli.errors import RunBusyError, RunConflictError, RunError, RunFormatError
from tests.toy_journal import SETTINGS, trial, write
from tests.toys import toy_task


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    with write(tmp_path) as run:
        for n in range(3):
            run.record(trial(n))
        assert run.run.trials(toy_task()) == [trial(n) for n in range(3)]
    row = json.loads((tmp_path / "trials.jsonl").read_text().splitlines()[1])
    assert list(row) == ["n", "key", "arch", "edits", "tag", "values", "seconds", "error"]


def test_finals_join_the_front(tmp_path: Path) -> None:
    with write(tmp_path) as run:
        run.record(trial(1))
        run.record_final(trial(1).key, {"test_accuracy": 90.0})
        run.write_front([trial(1)], {})
    assert Run.open(tmp_path).front["members"][0]["values"]["test_accuracy"] == 90.0
    assert (tmp_path / "front.csv").read_text().splitlines()[0] == "n,arch,error,size,test_accuracy"


def test_state_survives_and_forgets_later_steps(tmp_path: Path) -> None:
    with write(tmp_path) as run:
        assert run.state() is None
        run.tell({"loss": 1.0})
        run.save_state({"w": torch.ones(2), "step": 3})
        run.tell({"loss": 0.5})
    with write(tmp_path) as run:
        state = run.state()
        assert state is not None and state["step"] == 3 and state["w"].tolist() == [1.0, 1.0]
    assert (tmp_path / "steps.jsonl").read_text() == '{"loss":1.0}\n'


def test_going_on_needs_the_same_settings_but_for_the_budget(tmp_path: Path) -> None:
    write(tmp_path).__exit__()
    write(tmp_path, budget={"evaluations": 30}).__exit__()
    with pytest.raises(RunConflictError, match=r"\(seed: 0 -> 1; strategy.batch: 4 -> 5\)"):
        write(tmp_path, seed=1, strategy={"name": "random", "batch": 5})
    with pytest.raises(RunConflictError, match="is a run of nascli search"):
        write(tmp_path, command="train")
    with pytest.raises(RunConflictError, match="the choices of the space"):
        Writer(tmp_path, command="search", resolved=SETTINGS, header={"fingerprint": "00000000"})
    write(tmp_path).__exit__()


def test_a_compression_may_get_more_levels_and_other_forms_of_export(tmp_path: Path) -> None:
    def again(**changes: object) -> None:
        write(tmp_path, "compress", **{"strategy": {"levels": [0.5], "of": "macs"}, "report": {}} | changes).__exit__()

    again()
    again(strategy={"levels": [0.5, 0.3], "of": "macs"}, report={"to": ["onnx"]})
    with pytest.raises(RunConflictError, match=r"\(strategy.of: 'macs' -> 'params'\)"):
        again(strategy={"levels": [0.5], "of": "params"})
    with pytest.raises(RunConflictError, match=r"\(compressor.wgsef.epochs: "):
        again(compressor={"wgsef": {"epochs": 3.0}})


def test_texts_are_replaced_whole(tmp_path: Path) -> None:
    with write(tmp_path) as run:
        run.save_text("genotype-0.txt", "first, and longer\n")
        run.save_text("genotype-0.txt", "zweite, kürzer\n")
    assert (tmp_path / "genotype-0.txt").read_text(encoding="utf-8") == "zweite, kürzer\n"
    assert not list(tmp_path.glob(".*.part"))
    # It is part of the run: going on finds no stranger in the folder.
    write(tmp_path).__exit__()


def test_two_writers(tmp_path: Path) -> None:
    with write(tmp_path), pytest.raises(RunBusyError, match=f"process {os.getpid()}"):
        write(tmp_path)
    assert Run.open(tmp_path).header["status"] == "running"


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(RunError, match="holds other files and is no run directory"):
        write(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunFormatError, match="is no run directory"):
        Run.open(tmp_path)


def test_time_goes_on_over_interruptions(tmp_path: Path) -> None:
    with write(tmp_path) as run:
        run.mark("interrupted")
    header = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(header | {"elapsed_s": 100.0}))
    with write(tmp_path) as run:
        assert 100.0 <= run.elapsed_s < 101.0


def test_what_a_kill_leaves_is_tidied_up(tmp_path: Path) -> None:
    tensors = {"w": torch.ones(2)}
    with write(tmp_path) as run:
        for n in range(3):
            run.record(trial(n))
            run.save_network(trial(n), tensors, {})
    networks = tmp_path / "networks"
    for path in (tmp_path / ".front.json.abc.part", networks / ".1.json.abc.part"):
        path.write_text("half")
    (networks / "2.safetensors").unlink()
    (networks / "notes.txt").write_text("mine")
    with write(tmp_path) as run:
        run.keep_networks({0})
    assert not list(tmp_path.rglob("*.part"))
    assert sorted(p.name for p in networks.iterdir()) == ["0.json", "0.safetensors", "notes.txt"]


def test_tensors_without_their_description_are_not_there_yet(tmp_path: Path) -> None:
    with write(tmp_path) as run:
        run.record(trial(0))
        run.save_network(trial(0), {"w": torch.ones(2)}, {})
        (tmp_path / "networks/0.json").unlink()
        assert run.run.network(0, toy_task().space).tensors is None


def test_a_run_that_was_killed_while_it_was_made_is_made(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("")
    (tmp_path / "settings.toml").write_text("half")
    write(tmp_path).__exit__()
    assert Run.open(tmp_path).settings["seed"] == 0


def test_the_folder_is_looked_at_again_under_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes start at once, and the first has made and left the run before the second gets the lock."""
    taken = writer.Lock

    def late(path: Path) -> object:
        monkeypatch.setattr(writer, "Lock", taken)
        with write(path) as first:
            first.record(trial(0))
        return taken(path)

    monkeypatch.setattr(writer, "Lock", late)
    with pytest.raises(RunConflictError, match="seed: 0 -> 1"):
        write(tmp_path, seed=1)
    assert Run.open(tmp_path).settings["seed"] == 0 and len(Run.open(tmp_path).rows) == 1


def test_a_failed_start_gives_the_lock_back(tmp_path: Path) -> None:
    write(tmp_path).__exit__()
    with pytest.raises(RunConflictError):
        write(tmp_path, seed=1)
    write(tmp_path).__exit__()


def test_a_front_without_members_is_written_and_read(tmp_path: Path) -> None:
    with write(tmp_path) as run:
        run.write_front([], {"hypervolume": 0.0})
    assert Run.open(tmp_path).front == {"hypervolume": 0.0, "members": []}
    assert (tmp_path / "front.csv").read_text() == "n,arch\n"


def test_no_trial_with_a_value_that_is_no_number(tmp_path: Path) -> None:
    from dataclasses import replace

    with write(tmp_path) as run:
        with pytest.raises(ValueError, match="JSON compliant"):
            run.record(replace(trial(0), values={"error": float("nan")}))
        assert run.run.rows == []
