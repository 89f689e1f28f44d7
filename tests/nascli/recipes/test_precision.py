from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from nascli.recipes.plain import Plain
from nascli.recipes.precision import Precision, run_in
from nascli.recipes.session import Moment, Session
from search_spaces.space import Batch
from tests.toy_images import Single, corners, image_task, same

TASK = image_task(Single(), data=corners())


def product() -> torch.dtype:
    return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


@pytest.mark.parametrize(("precision", "dtype"), [("single", torch.float32), ("bfloat16", torch.bfloat16)])
def test_passes_run_in_the_precision_and_what_happens_between_them_does_not(
    precision: Precision, dtype: torch.dtype
) -> None:
    inside: list[torch.dtype] = []

    def losses() -> Iterator[Tensor]:
        for _ in range(2):
            inside.append(product())
            yield torch.ones(())
        inside.append(product())

    outside = [product() for _ in run_in(precision, "cpu", losses)]
    assert inside == [dtype] * 3
    assert [*outside, product()] == [torch.float32] * 3


def test_losses_that_come_in_a_list_are_computed_in_the_precision_too() -> None:
    (found,) = run_in("bfloat16", "cpu", lambda: [torch.ones(1, 2) @ torch.ones(2, 1)])
    assert found.dtype is torch.bfloat16


def test_an_error_within_a_pass_leaves_the_precision_as_it_was() -> None:
    def losses() -> Iterator[Tensor]:
        yield torch.ones(())
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(run_in("bfloat16", "cpu", losses))
    assert product() is torch.float32


def trained(precision: Precision) -> Session:
    torch.manual_seed(0)
    recipe = Plain(steps=60, batch=24, precision=precision)
    session = Session(recipe, TASK, model=TASK.space.build(TASK.space.table.largest))

    def losses(batch: Batch, at: Moment) -> Iterator[Tensor]:
        yield batch.losses(session.model(*batch.inputs)).mean()

    *_, last = session.run(losses)
    assert last.metrics["loss"] < 0.5
    return session


def test_training_in_bfloat16_learns_as_well_and_keeps_its_weights_in_single() -> None:
    exact, mixed, again = (trained(p).state()["model"] for p in ("single", "bfloat16", "bfloat16"))
    assert {t.dtype for t in mixed.values() if t.is_floating_point()} == {torch.float32}
    assert same(mixed, again) and not same(mixed, exact)
