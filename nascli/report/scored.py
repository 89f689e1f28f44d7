"""What a score run is asked for beside its scores, checked before the first network is measured and made at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nascli.errors import SettingsError, did_you_mean
from nascli.report import board, files, pictures, ranking, truth
from nascli.report.aggregates import aggregate, is_aggregate, parts
from nascli.report.board import FITTED, Board

if TYPE_CHECKING:
    from nascli.engine.runs import Run
    from nascli.engine.task import Task
    from nascli.strategies.listed import Listed

BEST = ("log_rank:jacov,meco,params", "log_rank:jacov,params")
"""Of these, the first whose scores are there is made unasked: they rank best without labels (docs/results.md)."""
FILE = "scores.csv"


@dataclass(frozen=True)
class Report:
    """What is made of a score run: rankings held against measured values, files, pictures, a fitted predictor."""

    against: str = ""
    """A table or run that says what networks reached: "FILE", "FILE:COLUMN", "RUN:COLUMN:min"."""
    aggregate: tuple[str, ...] = ()
    """Rankings made of several scores: "log_rank:jacov,params"."""
    top: int = 10
    """Networks shown, the best first."""
    k: int = 10
    """How many best-scored networks regret and nDCG look at."""
    fit: Literal["", "parzc"] = ""
    """The predictor that is fitted to the statistics of layers and to the measured values of some networks."""
    train: int = 156
    """Networks that it is fitted on; no figure is about them."""
    save: str = ""
    """Where the fitted predictor goes."""
    predictor: str = ""
    """A fitted predictor that scores all networks."""
    plot: tuple[str, ...] = ()
    """Pictures, by the ending of their name: .png or .svg."""
    output: tuple[str, ...] = ()
    """Further files with all scores, by the ending of their name: .csv, .json or .parquet."""

    def __post_init__(self) -> None:
        for name, least in (("top", 0), ("k", 1), ("train", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, but got {getattr(self, name)!r}")

    def check(self, task: Task, strategy: Listed) -> None:
        """Refuse what could not be made once all is measured.

        Raises SettingsError, DataError, UnsupportedError, and what reading the truth and the predictor raises.
        """
        for option in ("fit", "plot"):
            if getattr(self, option) and not self.against:
                raise SettingsError(f"--{option} needs measured values: give --against TABLE_OR_RUN, or --from RUN.")
        if self.fit and self.predictor:
            raise SettingsError("--fit makes a predictor and --predictor brings one; give one of the two.")
        if self.save and not self.fit:
            raise SettingsError("--save needs a predictor to save; give --fit parzc.")
        for path in self.output:
            files.check(path)
        for path in self.plot:
            pictures.check(path)
        self._check_names([o.name for o in (*task.objectives, *task.recorded)])
        asked = strategy.asked(task)
        known = truth.read(self.against, asked, task.space) if self.against else None
        if self.fit or self.predictor:
            # It brings torch with it.
            from nascli.report import fitted

            if self.predictor:
                fitted.load(self.predictor)
            elif known is not None:
                fitted.check(self.train, [strategy.measured(arch, task) for arch in asked], known)

    def _check_names(self, there: list[str]) -> None:
        if self.fit or self.predictor:
            if FITTED in there:
                raise SettingsError(f"The predictor's score is called {FITTED!r} too; leave --proxy {FITTED} out.")
            there = [*there, FITTED]
        for text in self.aggregate:
            for name in parts(text)[1]:
                if name not in there:
                    raise SettingsError(f"The aggregate {text!r} needs {name!r}.{did_you_mean(name, there)}")

    def make(self, run: Run, task: Task, strategy: Listed) -> Made:
        """The board with all that was asked for, and the files written: `scores.csv` of the run, and what is named."""
        found = board.read(run, task, strategy)
        if self.against:
            found = replace(found, truth=truth.read(self.against, found.asked, task.space))
        found, training = self._predicted(found, task) if self.fit or self.predictor else (found, None)
        for text in self._aggregates(found):
            found = replace(found, scores=(*found.scores, aggregate(text, found)))
        rows = np.ones(len(found.asked), dtype=bool) if training is None else ~training
        figures = self._figures(found, task, rows)
        return Made(found, training, figures, tuple(self._written(run, found, training, figures, rows)), self)

    def _predicted(self, found: Board, task: Task) -> tuple[Board, np.ndarray | None]:
        """The board with a predictor's score, and the networks that it was fitted on."""
        from nascli.report import fitted

        if found.truth is None or not self.fit:
            return fitted.predict(found, fitted.load(self.predictor), task.space), None
        predictor, training = fitted.fit(found, found.truth, self.train, task)
        if self.save:
            fitted.save(predictor, Path(self.save))
        return fitted.predict(found, predictor, task.space), training

    def _aggregates(self, found: Board) -> Sequence[str]:
        names = {score.name for score in found.scores}
        return self.aggregate or [text for text in BEST if set(parts(text)[1]) <= names][:1]

    def _figures(self, found: Board, task: Task, rows: np.ndarray) -> list[ranking.Figures]:
        if found.truth is None:
            return []
        return ranking.figures(found, found.truth, rows, k=self.k, rng=lambda: task.rng("bootstrap"))

    def _written(
        self, run: Run, found: Board, training: np.ndarray | None, figures: Sequence[ranking.Figures], rows: np.ndarray
    ) -> list[Path]:
        table = files.columns(found, training)
        paths = [run.path / FILE, *(Path(path) for path in self.output)]
        for path in paths:
            files.write(path, table)
        if found.truth is not None:
            for plot in self.plot:
                paths += pictures.draw(Path(plot), found, found.truth, figures, rows)
        return paths + ([Path(self.save)] if self.save else [])


@dataclass(frozen=True)
class Made:
    """What came of a score run."""

    board: Board
    training: np.ndarray | None
    figures: Sequence[ranking.Figures]
    written: tuple[Path, ...]
    report: Report

    @property
    def leader(self) -> str:
        """The score that the best networks are shown by: the predictor's, else the first aggregate, else the first."""
        names = [s.name for s in self.board.scores]
        return next((n for n in names if n == FITTED), next(filter(is_aggregate, names), names[0]))

    @property
    def warnings(self) -> list[str]:
        """Sentences about scores that say little."""
        return [f.warning for f in self.figures if f.warning]

    def best(self) -> list[dict[str, Any]]:
        """The best networks by the leader, the best first, with all their scores."""
        rising = self.board.score(self.leader).rising
        # Stable, so that equal ones stay in the order asked; those without a score come last.
        order = np.argsort(np.where(np.isnan(rising), np.inf, -rising), kind="stable")[: self.report.top]
        table = files.columns(self.board, self.training)
        return [{name: values[i] for name, values in table.items()} for i in order]

    def facts(self) -> dict[str, Any]:
        """Everything but the single networks, as JSON values."""
        board, known = self.board, self.board.truth
        return {
            "networks": len(board.asked),
            "measured": len(set(board.measured)),
            "scores": {s.name: {"goal": s.goal, "missing": s.failures} for s in board.scores},
            "against": None
            if known is None
            else {"source": known.source, "column": known.column, "goal": known.goal, "unit": known.unit},
            "training": None if self.training is None else int(self.training.sum()),
            "figures": [{**asdict(f), "warning": f.warning} for f in self.figures],
            "between": ranking.between(board, [s.name for s in board.scores]),
            "leader": self.leader,
            "best": self.best(),
            "files": [str(path) for path in self.written],
        }
