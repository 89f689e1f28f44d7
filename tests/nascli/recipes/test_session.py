import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nascli.data import Data
from nascli.engine.protocol import Step
from nascli.engine.task import Task
from nascli.errors import DataError, UnsupportedError
from nascli.recipes.plain import Plain
from nascli.recipes.schedule import Recipe, Span
from nascli.recipes.session import Losses, Moment, Session, at_rest
from nascli.training import DivergedError
from search_spaces.space import Batch
from tests.toy_images import Single, corners, image_task, same

DROPOUT = image_task(Single())


def session(recipe: Recipe, task: Task = DROPOUT, *, state: Mapping[str, Any] | None = None, seed: int = 0) -> Session:
    torch.manual_seed(seed)
    return Session(recipe, task, model=task.space.build(task.space.table.largest), state=state)


def learning(session: Session, seen: list[Moment] | None = None) -> Losses:
    def losses(batch: Batch, at: Moment) -> Iterator[Tensor]:
        if seen is not None:
            seen.append(at)
        yield batch.losses(session.model(*batch.inputs)).mean()

    return losses


def run(session: Session) -> list[Step]:
    return list(session.run(learning(session)))


def test_going_on_from_any_state_gives_the_same_bits() -> None:
    # 96 examples in batches of 20: epochs of 4 steps, so the states lie before, within and after epochs.
    recipe = Plain(steps=10, batch=20, report_steps=1)
    whole = session(recipe)
    states = []
    for step in whole.run(learning(whole)):
        assert step.state is not None
        states.append(step.state())
    final = states[-1]
    assert len(states) == 10
    for at, state in enumerate(states):
        torch.manual_seed(at + 5)  # whatever torch's own generator says
        resumed = session(replace(recipe, report_steps=3), state=state, seed=at + 7)
        run(resumed)
        ended = resumed.state() | {"elapsed_s": final["elapsed_s"]}
        assert same(ended, final), f"resumed after step {at + 1}"


def test_a_state_survives_torch_save_and_is_a_copy() -> None:
    recipe = Plain(steps=6, batch=20, report_steps=2)
    first = session(recipe)
    first.notes["teacher"] = {"w": torch.ones(2)}
    steps = first.run(learning(first))
    next(steps)
    state = first.state()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    list(steps)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    assert same(loaded, state) and not same(first.state(), state)
    resumed = session(recipe, state=loaded)
    run(resumed)
    buffer.seek(0)
    assert same(torch.load(buffer, weights_only=True), loaded)  # the resumed session worked on copies
    assert same(resumed.state()["model"], first.state()["model"]) and "teacher" in resumed.notes


def test_seeds_decide_everything_and_torch_generators_are_left_alone() -> None:
    recipe = Plain(steps=5, batch=20)
    ends = []
    for seed in (0, 0, 1):
        trained = session(recipe, replace(DROPOUT, seed=seed))
        before = torch.get_rng_state()
        run(trained)
        assert torch.equal(torch.get_rng_state(), before)
        ends.append(trained.state()["model"])
    assert same(ends[0], ends[1]) and not same(ends[0], ends[2])


def test_dropout_differs_from_step_to_step() -> None:
    trained = session(Plain(steps=3, batch=20))
    masks = []

    def losses(batch: Batch, at: Moment) -> Iterator[Tensor]:
        masks.append(torch.rand(4))
        yield batch.losses(trained.model(*batch.inputs)).mean()

    list(trained.run(losses))
    assert len({tuple(m.tolist()) for m in masks}) == 3


def test_reports_say_how_far_training_is() -> None:
    steps = run(session(Plain(steps=8, batch=24, report_steps=3)))
    assert [s.metrics["step"] for s in steps] == [3, 6, 8]
    assert [s.metrics["epoch"] for s in steps] == [0.75, 1.5, 2.0]
    assert [s.metrics["progress"] for s in steps] == [0.375, 0.75, 1.0]
    assert all(s.metrics["images_per_s"] > 0 and math.isfinite(s.metrics["loss"]) for s in steps)
    assert steps[0].metrics["lr"] > steps[-1].metrics["lr"] > 0
    assert 0 < steps[0].metrics["seconds"] < steps[-1].metrics["seconds"]


def test_the_reported_loss_is_the_mean_since_the_last_report() -> None:
    recipe = Plain(steps=4, batch=24, report_steps=1)
    singles = [s.metrics["loss"] for s in run(session(recipe))]
    pairs = [s.metrics["loss"] for s in run(session(replace(recipe, report_steps=2)))]
    assert pairs == pytest.approx([(singles[0] + singles[1]) / 2, (singles[2] + singles[3]) / 2])


class Clock:
    """Stands in for the `time` module: time passes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("nascli.recipes.session.time", self)

    def perf_counter(self) -> float:
        return self.now

    def each_step(self, session: Session, seconds: float) -> Losses:
        def losses(batch: Batch, at: Moment) -> Iterator[Tensor]:
            self.now += seconds
            yield batch.losses(session.model(*batch.inputs)).mean()

        return losses


def test_slow_steps_are_reported_after_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = session(Plain(steps=5, batch=24))
    steps = list(trained.run(Clock(monkeypatch).each_step(trained, 0.75)))
    assert [s.metrics["step"] for s in steps] == [3, 5]
    assert steps[0].metrics["seconds"] == 2.25 and steps[0].metrics["images_per_s"] == 32


def test_every_example_comes_once_an_epoch() -> None:
    rows = []
    trained = session(Plain(epochs=2, batch=24), image_task(Single(), data=corners(pad=0)))

    def losses(batch: Batch, at: Moment) -> Iterator[Tensor]:
        rows.append(batch.inputs[0].flatten(1))
        yield batch.losses(trained.model(*batch.inputs)).mean()

    list(trained.run(losses))
    first, second = torch.cat(rows[:4]), torch.cat(rows[4:])
    assert len(rows) == 8 and len(first.unique(dim=0)) == 96
    assert torch.equal(first.unique(dim=0), second.unique(dim=0)) and not torch.equal(first, second)


def test_fewer_examples_than_a_batch_are_one_step_an_epoch() -> None:
    steps = run(session(Plain(epochs=3, batch=500)))
    assert steps[-1].metrics["step"] == 3


def test_a_time_limit_ends_training_and_counts_the_time_before_a_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, recipe = Clock(monkeypatch), Plain(time_limit_s=10.0, batch=24)
    trained = session(recipe)
    states = [s.state() for s in trained.run(clock.each_step(trained, 0.75)) if s.state]
    assert states[0]["elapsed_s"] == 2.25 and states[-1]["elapsed_s"] == 10.5
    clock.now = 1000.0
    resumed = session(recipe, state=states[0])
    assert resumed.spent == 0.225
    ends = [s.metrics["seconds"] for s in resumed.run(clock.each_step(resumed, 0.75))]
    assert ends == [4.5, 6.75, 9.0, 10.5]


def test_a_time_limit_is_kept_by_the_real_clock() -> None:
    trained = session(Plain(time_limit_s=0.5, batch=24))
    (*_, last) = run(trained)
    assert last.metrics["seconds"] >= 0.5 and last.metrics["step"] >= 1 and last.metrics["progress"] == 1
    assert trained.spent < 4  # one step is late, on a busy machine by much


def test_time_between_reports_is_not_training_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    trained = session(Plain(time_limit_s=10.0, batch=24, report_steps=1))
    for _ in trained.run(clock.each_step(trained, 1.0)):
        clock.now += 100.0
    assert trained.state()["step"] == 10


def test_spans_are_parts_of_one_budget() -> None:
    trained = session(Plain(steps=10, batch=24))
    seen: list[Moment] = []
    list(trained.run(learning(trained, seen), Span(0.0, 0.35)))
    assert [m.step for m in seen] == [0, 1, 2, 3]
    list(trained.run(learning(trained, seen), Span(0.35, 1.0)))
    assert [m.step for m in seen] == list(range(10))
    assert not list(trained.run(learning(trained)))


def test_divergence_is_an_error_and_no_state_of_it_is_offered() -> None:
    trained = session(Plain(steps=6, batch=24, report_steps=2))
    good = 0

    def losses(batch: Batch, at: Moment) -> Iterator[Tensor]:
        factor = math.nan if at.step == 3 else 1.0
        yield batch.losses(trained.model(*batch.inputs)).mean() * factor

    with pytest.raises(DivergedError, match="nan by step 4"):
        for _ in trained.run(losses):
            good += 1
    assert good == 1


def test_a_learning_rate_that_is_far_too_high_is_noticed() -> None:
    trained = session(Plain(steps=200, batch=24, lr=1e30, clip=math.inf))
    with pytest.raises(DivergedError, match="lower lr"):
        run(trained)


def test_training_needs_data() -> None:
    with pytest.raises(UnsupportedError, match="--data"):
        session(Plain(), Task(Single()))
    data = corners()
    empty = Data(data.signature, data.train.head(0), data.val, data.test)
    with pytest.raises(DataError, match="no training examples"):
        session(Plain(), image_task(Single(), data=empty))


def test_at_rest_copies_what_is_nested() -> None:
    tensor = torch.ones(2, requires_grad=True)
    copied = at_rest({"a": [tensor, (1, None)], "b": "text"})
    assert copied["a"][0] is not tensor and not copied["a"][0].requires_grad
    assert copied["a"][1] == [1, None] and copied["b"] == "text"


def test_something_is_done_after_each_step_and_counted() -> None:
    trained = session(Plain(steps=3, batch=24, report_steps=2))
    seen: list[tuple[int, float, float]] = []

    def after(at: Moment) -> None:
        with torch.no_grad():
            for parameter in trained.model.parameters():
                parameter.zero_()
        seen.append((at.step, at.spent, trained.optimiser.param_groups[0]["lr"]))

    steps = list(trained.run(learning(trained), after=after))
    assert [s for s, _, _ in seen] == [1, 2, 3] and [round(spent * 3) for _, spent, _ in seen] == [1, 2, 3]
    assert seen[-1][2] == steps[-1].metrics["lr"]  # the rate of the step that was made, not of the next
    assert all(not p.any() for p in trained.model.parameters())


def test_another_model_goes_on_where_the_last_one_stood() -> None:
    task = image_task(Single())
    trained = session(Plain(steps=6, batch=24, report_steps=1), task)
    seen: list[Moment] = []
    list(trained.run(learning(trained, seen), Span(0.0, 0.5)))
    before = trained.optimiser
    other = task.space.build(task.space.table.largest).eval()
    trained.exchange(other)
    assert trained.model is other and other.training and trained.optimiser is not before
    assert not trained.optimiser.state
    list(trained.run(learning(trained, seen), Span(0.5, 1.0)))
    assert [m.step for m in seen] == list(range(6))
    assert same(trained.state()["model"], other.state_dict())


def test_a_run_can_stop_early_without_changing_the_rates() -> None:
    recipe = Plain(steps=6, batch=24, report_steps=1)
    whole = [s.metrics["lr"] for s in run(session(recipe))]
    parts = session(recipe)
    first = [s.metrics["lr"] for s in parts.run(learning(parts), until=0.5)]
    second = [s.metrics["lr"] for s in parts.run(learning(parts))]
    assert len(first) == 3 and first + second == whole
    assert not list(parts.run(learning(parts), until=0.5))
