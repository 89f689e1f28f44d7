"""The one process that writes a run. Whenever it is killed, every file is whole or absent, and starting again goes on.

Only this module, `files` and `checkpoints` write run directories.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Container, Mapping, Sequence
from csv import DictWriter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nascli import __version__, settings
from nascli.engine.files import Journal, Lock, explained, read_rows, replacing, sweep, write_json, write_text
from nascli.engine.protocol import Trial
from nascli.engine.runs import SCHEMA, Run, differences
from nascli.errors import RunConflictError, RunError

if TYPE_CHECKING:
    from torch import Tensor

BUDGETS = {
    "search": ("budget.",),
    "score": ("budget.", "report.", "strategy.archs:", "strategy.file:", "strategy.sample:"),
    "train": ("budget.", "strategy.epochs:", "strategy.steps:", "strategy.time_limit_s:"),
    "compress": ("budget.", "report.", "strategy.levels:"),
}
"""By command, the settings that may change when a run goes on: how far, not what is found on the way."""

_UNFINISHED = re.compile(r"lock|settings\.toml|(trials|steps|finals|scores)\.jsonl|\..*\.part")
"""What there may be before there is a run.json."""


class Writer:
    """The process that writes a run: creates or continues it, journals, and says how it ended."""

    def __init__(self, path: Path, *, command: str, resolved: Mapping[str, Any], header: Mapping[str, Any]) -> None:
        """Create the run, or go on with it if the folder holds one with the same settings.

        Raises RunConflictError with the differences, RunBusyError, RunFormatError, RunError.
        """
        self.path = path
        with explained(path):
            path.mkdir(parents=True, exist_ok=True)
            if _strangers(path):
                raise RunError(f"{path} holds other files and is no run directory; give --out an empty or new folder.")
        self._lock = Lock(path)
        try:
            for folder in (path, path / "networks"):
                sweep(folder)
            # Asked under the lock: another process may have made the run in the meantime.
            if not (path / "run.json").exists():
                write_text(path / "settings.toml", settings.to_toml(resolved))
                self._header = {"schema": SCHEMA, "nascli": __version__, "command": command, **header}
                self._header |= {"created": _now(), "elapsed_s": 0.0}
            else:
                self._header = dict(Run.open(path).header)
                _refuse_changes(Run.open(path), command, resolved, str(header["fingerprint"]))
            self._started = time.monotonic() - float(self._header["elapsed_s"])
            self._trials, self._steps = Journal(path / "trials.jsonl"), Journal(path / "steps.jsonl")
            self._finals, self._scores = Journal(path / "finals.jsonl"), Journal(path / "scores.jsonl")
            self._told = len(read_rows(path / "steps.jsonl"))
            self.mark("running")
        except BaseException:  # whatever it is goes on its way, but leaves no lock behind
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for journal in (self._trials, self._steps, self._finals, self._scores):
            journal.close()
        self._lock.release()

    @property
    def run(self) -> Run:
        """The run as a reader sees it."""
        return Run(self.path, self._header)

    @property
    def elapsed_s(self) -> float:
        """Seconds spent on this run, those before it was interrupted included."""
        return time.monotonic() - self._started

    def mark(self, status: str) -> None:
        """Note how the run stands: running, finished, interrupted, failed."""
        self._header |= {"status": status, "updated": _now(), "elapsed_s": round(self.elapsed_s, 3)}
        write_json(self.path / "run.json", self._header)

    def record(self, trial: Trial) -> None:
        """Append one trial to the journal; it survives a kill from now on."""
        row = {"n": trial.number, "key": trial.key, **trial.network.describe(), "values": dict(trial.values)}
        row |= {"seconds": round(trial.seconds, 6), "error": trial.error}
        # Most trials have neither, and their rows stay short.
        row |= {"missing": dict(trial.missing)} if trial.missing else {}
        row |= {"vectors": {n: v.tolist() for n, v in trial.vectors.items()}} if trial.vectors else {}
        self._trials.append(row)

    def record_score(self, proxy: str, trial: Trial) -> None:
        """Append one score that a strategy asked for."""
        self._scores.append({"proxy": proxy, "key": trial.key, "values": dict(trial.values), "error": trial.error})

    def sync(self) -> None:
        """Make what was recorded survive a power cut."""
        self._trials.sync()
        self._scores.sync()

    def tell(self, metrics: Mapping[str, float]) -> None:
        """Append what a strategy had to tell."""
        self._steps.append(dict(metrics))
        self._told += 1

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Replace the strategy's state; the steps told so far belong to it."""
        import torch

        self._steps.sync()
        # Through memory: on a full disk, torch's own writer raises what can't be told from a bug.
        data = io.BytesIO()
        torch.save({"steps": self._told, "state": dict(state)}, data)
        with replacing(self.path / "state.pt") as temporary:
            temporary.write_bytes(data.getbuffer())

    def state(self) -> Mapping[str, Any] | None:
        """The state to go on from, if one was saved; steps told after it are forgotten, as they will be told again."""
        path = self.path / "state.pt"
        if not path.exists():
            self._steps.keep(0)
            self._told = 0
            return None
        import torch

        saved = torch.load(path, map_location="cpu", weights_only=True)
        self._told = saved["steps"]
        self._steps.keep(self._told)
        return dict(saved["state"])

    def write_front(self, trials: Sequence[Trial], summary: Mapping[str, Any]) -> None:
        """Replace front.json and front.csv: the members with what was found of them, also on the test split."""
        finals = self.run.finals
        members = [
            {"n": t.number, "key": t.key, **t.network.describe(), "values": dict(t.values) | finals.get(t.key, {})}
            for t in trials
        ]
        write_json(self.path / "front.json", {**summary, "members": members})
        columns = ["n", "arch", *dict.fromkeys(c for m in members for c in m["values"])]
        text = io.StringIO()
        table = DictWriter(text, columns, lineterminator="\n")
        table.writeheader()
        table.writerows({"n": m["n"], "arch": m["arch"], **m["values"]} for m in members)
        write_text(self.path / "front.csv", text.getvalue())

    def record_final(self, key: str, values: Mapping[str, float]) -> None:
        """Append what was measured of a front member at the end."""
        self._finals.append({"key": key, "values": dict(values)})
        self._finals.sync()

    def save_network(self, trial: Trial, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Store a front member's tensors with its description."""
        path = self.run.network_path(trial.number)
        with explained(path):
            path.parent.mkdir(exist_ok=True)
        self.save_tensors(path, tensors, {**trial.network.describe(), **facts})

    def drop_network(self, number: int) -> None:
        """Forget the tensors of a trial that left the front, if it had any."""
        path = self.run.network_path(number)
        for file in (path, path.with_suffix(".json")):
            with explained(file):
                file.unlink(missing_ok=True)

    def keep_networks(self, numbers: Container[int]) -> None:
        """Forget the tensors of all other trials: what a killed process had no time to tidy up."""
        for file in (self.path / "networks").glob("*"):
            if file.stem.isdigit() and int(file.stem) not in numbers:
                self.drop_network(int(file.stem))

    def save_text(self, name: str, text: str) -> None:
        """Replace a text file of the run's."""
        write_text(self.path / name, text)

    def save_tensors(self, path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
        """Store tensors as safetensors with a JSON description beside them."""
        from nascli.engine.checkpoints import write_tensors

        with explained(path):
            write_tensors(path, tensors, {"schema": SCHEMA, "nascli": __version__, **description})


def _strangers(path: Path) -> list[str]:
    """The names in a folder that holds neither a run nor what is left of one that was killed while being made."""
    names = [p.name for p in path.iterdir()]
    # The lock comes first: without it, even a settings.toml is somebody else's.
    if "run.json" in names or ("lock" in names and all(map(_UNFINISHED.fullmatch, names))):
        return []
    return names


def _refuse_changes(run: Run, command: str, resolved: Mapping[str, Any], fingerprint: str) -> None:
    if run.header["command"] != command:
        raise RunConflictError(f"{run.path} is a run of nascli {run.header['command']}; give --out another folder.")
    budgets = BUDGETS.get(command, ("budget.",))
    lines = [line for line in differences(run.settings, settings.plain(resolved)) if not line.startswith(budgets)]
    if not lines and run.header["fingerprint"] != fingerprint:
        lines = [f"the choices of the space: {run.header['fingerprint']} -> {fingerprint}"]
    if lines:
        raise RunConflictError(
            f"{run.path} was started with other settings ({'; '.join(lines)}). "
            "Only budgets may change: give --out another folder, or the old settings."
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
