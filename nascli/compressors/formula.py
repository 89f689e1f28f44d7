"""What a network would cost without some of its groups, by a formula: each layer's share is the product of its sides'.

A convolution or a linear layer has as many multiply-adds as weights times positions, so both shrink by the shares of
input and output channels that are left. The formula is as good as the counting that it replaces, or it is not used:
`agrees` holds it against networks that really are smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from predictors.cost import count
from search_spaces.groups import Groups

Counted = Literal["macs", "params", "bytes"]
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Formula:
    """The macs, params or bytes of a network as a function of the groups that live, bool [groups]."""

    def __init__(self, model: nn.Module, groups: Groups, example: tuple[Tensor, ...], of: Counted) -> None:
        self._groups = groups
        cost = count(model, example)
        if of == "macs":
            self._prices = _positions(model, example)
            self._rest = float(cost.macs)
        else:
            named = model.named_parameters() if of == "params" else model.state_dict().items()
            self._prices = {n: 1.0 if of == "params" else float(t.element_size()) for n, t in named}
            self._rest = float(cost.params if of == "params" else cost.size_bytes)
        self._sizes = {n: t.numel() for n, t in model.state_dict().items() if n in self._prices}
        self._rest -= sum(self._sizes[n] * price for n, price in self._prices.items())

    def __call__(self, alive: Tensor) -> float:
        """The cost if only these groups live."""
        padded = torch.cat([alive.double().cpu(), torch.ones(1, dtype=torch.float64)])
        shares = dict.fromkeys(self._prices, 1.0)
        for cut in self._groups.cuts:
            if cut.tensor in shares:
                shares[cut.tensor] *= float(padded[cut.owners.cpu()].mean())
        return float(self._rest + sum(self._sizes[n] * price * shares[n] for n, price in self._prices.items()))

    def agrees(self, counted: Callable[[Tensor], float]) -> bool:
        """Whether the formula says what counting does, of the whole network and of two that are smaller."""
        groups = self._groups
        first = torch.zeros(len(groups), dtype=torch.bool)
        first[[int((groups.axis == axis).nonzero()[0]) for axis in range(len(groups.names))]] = True
        draw = torch.rand(len(groups), generator=torch.Generator().manual_seed(0)) < 0.5
        trials = (torch.ones_like(first), first, first | draw)
        return all(abs(self(alive) - (true := counted(alive))) <= 1e-9 * true for alive in trials)


def _positions(model: nn.Module, example: tuple[Tensor, ...]) -> Mapping[str, float]:
    """By the name of its weight, how often each weight of a layer is used in one pass."""
    found: dict[str, float] = {}
    hooks: list[RemovableHandle] = []

    def watch(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(layer: nn.Module, inputs: object, output: Tensor) -> None:
            # A row of the weight is an output channel.
            found[name] = found.get(name, 0.0) + output.numel() / len(layer.get_parameter("weight"))

        return hook

    modes = {m: m.training for m in model.modules()}
    try:
        for name, layer in model.named_modules():
            if isinstance(layer, _LAYERS):
                hooks.append(layer.register_forward_hook(watch(f"{name}.weight" if name else "weight")))
        model.eval()
        with torch.no_grad():
            model(*example)
    finally:
        for handle in hooks:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return found
