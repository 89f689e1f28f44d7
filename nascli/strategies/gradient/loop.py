"""The loop of every relaxed search: a supernet and its architecture weights trained against each other on minibatches.

The network's weights learn from the training split, the architecture weights from the validation split. All
randomness is named after the minibatch it belongs to, so that a search goes on from a saved state exactly as if it had
never stopped. Which method trains the two, and what turns weights into gates, are settings.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nascli import training
from nascli.engine.protocol import Search, Step
from nascli.engine.task import Task
from nascli.errors import UnsupportedError
from nascli.recipes.randomness import generators, seeded
from nascli.recipes.session import REPORT_S, at_rest
from nascli.recipes.stream import Stream
from nascli.strategies.gradient import penalties
from nascli.strategies.gradient.bilevel.problem import Loss, Pace, Tensors
from nascli.strategies.gradient.mixture import Moment
from nascli.strategies.gradient.schedule import Stage
from nascli.strategies.gradient.start import beginning, described, new_supernet, ready
from nascli.strategies.gradient.watch import Upper, Watch
from search_spaces.space import Batch, Gates

if TYPE_CHECKING:
    from nascli.data import Split
    from nascli.strategies.gradient.relaxed import Relaxed


class Loop:
    """A relaxed search under way; it is the `Problem` that its bilevel method solves.

    `notes` are those of whoever decides, and are saved with the state.
    """

    def __init__(self, settings: Relaxed, task: Task, state: Mapping[str, Any] | None = None) -> None:
        if task.data is None:
            raise UnsupportedError("A relaxed search needs data; give --data NAME.")
        self.settings, self.task, self._data = settings, task, task.data
        begun = beginning(settings, task)
        self.mixture = begun.mixture
        self.trained = begun.trained
        """Whether the supernet came with its training done."""
        self._train = Stream(task.data.train, settings.batch, task, name="gradient/train")
        self._val = Stream(task.data.val, settings.batch, task, name="gradient/val")
        self._macs = begun.macs
        self.adopt(begun.supernet, settings.partial_channels)
        self._watch = Watch(settings.early_stop)
        self.stage, self._used, self._draws, self._elapsed_s = 0, 0, 0, 0.0
        self._spent = 0.0
        self.progress = 0.0
        """The share of all epochs that are over."""
        self.notes: dict[str, Any] = {}
        if state is not None:
            self._load(state)

    def adopt(self, supernet: nn.Module, parts: int) -> None:
        """Train this supernet of so many parts of the channels from now on; the method that trains it starts anew."""
        self.model, self.parts = ready(supernet, self.task), parts
        self.weights: list[nn.Parameter] = [p for p in self.model.parameters() if p.requires_grad]
        self._names = [name for name, p in self.model.named_parameters() if p.requires_grad]
        self._solver = self.settings.bilevel.solver(self, self.settings.optimisers)

    # -- the problem -------------------------------------------------------------------------------------------------

    @property
    def alpha(self) -> Tensors:
        """See `Problem.alpha`."""
        return self.mixture.alpha

    @property
    def validation(self) -> Split:
        """The examples that decisions are made on."""
        return self._data.val

    def lower(self) -> Loss:
        """See `Problem.lower`."""
        self._used += 1
        moment = Moment(self.settings.heat(self._spent), self.settings.radius(self._spent))
        return self._loss(self._train.next(), moment, f"lower{self._next()}")

    def upper(self) -> Loss:
        """See `Problem.upper`."""
        found = self._loss(self._val.next(), Moment(self.settings.heat(self._spent)), f"upper{self._next()}")
        decay, kept = self.settings.beta_decay * self._spent, self.settings.anchor

        def loss(alpha: Tensors, weights: Tensors) -> Tensor:
            value = found(alpha, weights)
            if decay:
                value = value + (decay * penalties.beta_decay(alpha[0], self.mixture.valid)).to(value.device)
            if kept:
                value = value + (kept * penalties.anchor(alpha[0], self.mixture.valid)).to(value.device)
            return value

        return loss

    def excess(self, alpha: Tensors) -> Tensor | None:
        """See `Problem.excess`: expected multiply-adds beyond `max_macs`, relative to it."""
        if self._macs is None or self.settings.max_macs is None:
            return None
        base, costs = self._macs
        weights = self.mixture.settled(self.mixture.weights(alpha))
        return (base + (weights * costs).sum()) / self.settings.max_macs - 1

    def _loss(self, batch: Batch, moment: Moment | None, stream: str) -> Loss:
        # Without a moment, the loss of the expected mixture.
        seed = self.task.entropy(f"gradient/{stream}")

        def loss(alpha: Tensors, weights: Tensors) -> Tensor:
            # The same draws whenever this loss is asked for: methods compare it at several weights.
            seeded(seed, self.task.device)
            mixed = self.mixture.weights(alpha) if moment is None else self.mixture.sampled(alpha, moment)
            gates = self.mixture.gates(mixed, importance=self.mixture.importance(alpha))
            return batch.losses(self._forward(batch, gates, weights)).mean()

        return loss

    def _forward(self, batch: Batch, gates: Gates, weights: Tensors) -> Tensor:
        others = {n: w for n, w, own in zip(self._names, weights, self.weights, strict=True) if w is not own}
        logits: Tensor = functional_call(self.model, others, batch.inputs, {"gates": gates}, tie_weights=False)
        return logits

    def _next(self) -> int:
        self._draws += 1
        return self._draws

    # -- training ----------------------------------------------------------------------------------------------------

    def train(self, stage: Stage) -> Search:
        """Steps that report and offer the state, until the stage's epochs are over or early stopping ends them."""
        while not self._over(stage):
            yield Step(metrics=self._advance(stage), state=self.state)

    def restart(self) -> None:
        """Forget all decisions and begin with the first stage again, with the supernet as it is."""
        self.stage, self._used = 0, 0
        self.mixture.reopen()

    def enlarge(self, more: int) -> None:
        """Take so many examples more in a minibatch from now on."""
        for stream in (self._train, self._val):
            stream.resize(stream.size + more)

    def end_stage(self) -> None:
        """Go on to the next stage."""
        self.stage, self._used = self.stage + 1, 0

    def told(self) -> dict[str, float]:
        """How undecided the search is, in numbers."""
        with torch.no_grad():
            return self._watch.told(self.mixture) | {"progress": self.progress}

    def _over(self, stage: Stage) -> bool:
        return self._used >= self._steps(stage) or (stage.total is not None and self._watch.stopped)

    def _steps(self, stage: Stage) -> int:
        return round(stage.epochs * self._train.steps_an_epoch)

    def _advance(self, stage: Stage) -> dict[str, float]:
        """Train until a report is due or an epoch is over; the report."""
        began, before, epoch = self._used, self._elapsed_s, self._train.steps_an_epoch
        started = time.perf_counter()
        lower = torch.zeros((), device=self.task.device)
        upper: list[Tensor] = []
        steps = 0
        with torch.random.fork_rng(devices=generators(self.task.device)):
            while True:
                pace = self._pace(stage, self._used / epoch)
                self._spent = pace.spent
                told = self._solver.step(pace)
                lower += told.lower
                upper += [] if told.upper is None else [told.upper]
                steps += 1
                self._elapsed_s = before + time.perf_counter() - started
                whole = self._used // epoch > began // epoch or self._used >= self._steps(stage)
                late = self._elapsed_s - before >= REPORT_S or steps >= self.settings.report_steps
                if whole or late:
                    break
            metrics = {"loss": training.finite(lower.item() / steps, step=self._draws)}
            if upper:
                metrics["val_loss"] = training.finite(torch.stack(upper).mean().item(), step=self._draws)
            if whole:
                self._epoch_over(stage)
        done = self._used / epoch
        self.progress = self._progress(stage, done)
        metrics |= {"lr": pace.lr, "epoch": stage.first + done}
        return {**metrics, **self.told(), "seconds": self._elapsed_s}

    def _epoch_over(self, stage: Stage) -> None:
        self.settings.remember(self)
        if stage.total is not None:
            self._watch.epoch(self.mixture, self._upper_on_one_batch)

    def _pace(self, stage: Stage, done: float) -> Pace:
        settings, spent = self.settings, stage.spent(done)
        learnt = settings.alpha == "learnt" and stage.first + done >= settings.warm_up
        return Pace(settings.rate(stage, spent), spent, learnt and bool(self.mixture.undecided))

    def _progress(self, stage: Stage, done: float) -> float:
        # All of it is only spent when the network has been proposed.
        return min(0.999, (stage.first + done) / self.settings.all_epochs(self.mixture.rows))

    def _upper_on_one_batch(self) -> Upper:
        # The same one after every epoch, so that its curvatures can be compared.
        batch = next(self._data.val.batches(self.settings.batch, device=self.task.device))
        # Of the expected mixture: torch gives no second derivatives of Dirichlet's draws.
        found = self._loss(batch, None, "watch")
        return lambda alpha: found(alpha, self.weights)

    # -- state -------------------------------------------------------------------------------------------------------

    def searched(self) -> dict[str, Any]:
        """The supernet's tensors and its architecture weights as they are now: to select from again."""
        return {"tensors": at_rest(self.model.state_dict()), "parts": self.parts, **described(self.mixture)}

    def state(self) -> dict[str, Any]:
        """Copies on the CPU of all that the search goes on from; readable by torch.load(weights_only=True)."""
        parts = {
            "model": self.model.state_dict(),
            "mixture": self.mixture.state(),
            "solver": self._solver.state(),
            "streams": [self._train.state(), self._val.state()],
            "watch": self._watch.state(),
            "notes": self.notes,
        }
        counts = {"stage": self.stage, "used": self._used, "draws": self._draws, "parts": self.parts}
        rested: dict[str, Any] = at_rest(parts)
        return rested | counts | {"elapsed_s": self._elapsed_s, "progress": self.progress}

    def _load(self, state: Mapping[str, Any]) -> None:
        if state["parts"] != self.parts:
            self.adopt(new_supernet(state["parts"], self.task), state["parts"])
        self.model.load_state_dict(state["model"])
        self.mixture.load(state["mixture"])
        # Optimisers would otherwise work on the state's own tensors.
        self._solver.load(at_rest(state["solver"]))
        for stream, position in zip((self._train, self._val), state["streams"], strict=True):
            stream.load(position)
        self._watch.load(state["watch"])
        self.stage, self._used, self._draws = state["stage"], state["used"], state["draws"]
        # Notes are changed in place, their parts too; a state is not.
        self._elapsed_s, self.progress, self.notes = state["elapsed_s"], state["progress"], at_rest(state["notes"])
