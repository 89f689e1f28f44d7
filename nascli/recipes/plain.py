"""Training one network by itself, from fresh weights or from those it inherits: what a search proposes, made usable."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from nascli.engine.evaluate import assemble
from nascli.engine.network import Network
from nascli.engine.protocol import Step, Trial
from nascli.engine.task import Task
from nascli.recipes.one_network import OneNetwork
from nascli.recipes.session import Moment, Session, at_rest
from search_spaces.space import Batch


@dataclass(frozen=True, kw_only=True)
class Plain(OneNetwork):
    """One network, trained by itself: cross-entropy with smoothed labels, the learning rate along a cosine."""

    lr: float = 0.05
    """As in other recipes, but lower: a model of one's own may have no normalisation."""

    def fit(
        self, network: Network, task: Task, state: Mapping[str, Any] | None = None
    ) -> Generator[Step, Sequence[Trial], Network]:
        """See `OneNetwork.fit`."""
        session = Session(self, task, model=assemble(network, task), state=state)

        def losses(batch: Batch, at: Moment) -> Iterator[Tensor]:
            yield batch.losses(session.model(*batch.inputs), smoothing=self.smoothing).mean()

        yield from session.run(losses)
        return replace(network, tensors=at_rest(session.model.state_dict()), tag=session.tag)
