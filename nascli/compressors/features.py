"""What a smaller network can learn from the dense one before the outputs: the channels that both still have.

After FitNets (Romero et al. 2015, arXiv:1412.6550). As the smaller network's channels are some of the dense one's, they
are compared as they are, without the regressor that the paper needs between layers of different widths.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nascli.compressors.criteria import normalises
from search_spaces.keep import Keep

Seen = dict[str, Tensor]
"""Layer -> its latest output."""


class Features:
    """The outputs of the normalisation layers that a network and its teacher share, of each one's latest pass."""

    def __init__(self, model: nn.Module, teacher: nn.Module, edit: Keep) -> None:
        self._mine: Seen = {}
        self._taught: Seen = {}
        theirs = dict(teacher.named_modules())
        for name, mine in model.named_modules():
            other = theirs.get(name)
            if other is not None and type(mine) is type(other) and not [*mine.children()] and normalises(mine):
                mine.register_forward_hook(_reading(self._mine, name))
                other.register_forward_hook(_reading(self._taught, name, _kept_channels(name, edit)))

    def loss(self) -> Tensor:
        """The mean over layers of the mean squared difference, relative to the teacher's mean square []; 0 if there are
        no such layers. Both networks must have run on the same batch before.
        """
        losses = [
            _relative(self._mine[name], taught)
            for name, taught in self._taught.items()
            if name in self._mine and self._mine[name].shape == taught.shape
        ]
        self._mine.clear()
        self._taught.clear()
        return torch.stack(losses).mean() if losses else torch.zeros(())


def _relative(mine: Tensor, taught: Tensor) -> Tensor:
    """The mean squared difference, relative to the teacher's mean square []."""
    least = (1e-12 * taught.numel()) ** 0.5
    return (_norm(mine - taught) / _norm(taught).clamp(min=least)).square()


def _norm(tensor: Tensor) -> Tensor:
    """The Euclidean norm [], summed in single precision at least.

    A mean of squares would first write copies: up to three times as slow.
    """
    exact = torch.promote_types(tensor.dtype, torch.float32)
    return torch.linalg.vector_norm(tensor, dtype=exact)  # type: ignore[no-any-return]


def _kept_channels(layer: str, edit: Keep) -> Tensor | None:
    """The channels that stay of what a layer puts out; None if all do."""
    for tensor in ("weight", "bias", "running_mean"):
        if (kept := edit.cuts.get(f"{layer}.{tensor}", {}).get(0)) is not None:
            return torch.tensor(kept, dtype=torch.int64)
    return None


def channels_of(output: Tensor, kept: Tensor | None, dim: int) -> Tensor:
    """An output [n, ...] without the channels along `dim` that `kept` [channels left] lacks; None: all stay.

    The memory format stays, as comparing tensors that lie differently takes several times as long.
    """
    if kept is None:
        return output
    kept = kept.to(output.device)
    if dim == 1 and output.dim() == 4 and output.is_contiguous(memory_format=torch.channels_last):
        return output.movedim(1, -1).index_select(-1, kept).movedim(-1, 1)
    return output.index_select(dim, kept)


def _channel_dim(module: nn.Module) -> int:
    """The dimension of a normalisation layer's output that its channels lie along."""
    return -1 if isinstance(module, nn.LayerNorm | nn.RMSNorm) else 1


def _reading(into: Seen, name: str, kept: Tensor | None = None) -> Callable[[nn.Module, object, Tensor], None]:
    def read(module: nn.Module, inputs: object, output: Tensor) -> None:
        into[name] = channels_of(output, kept, _channel_dim(module))

    return read
