"""Networks and batches that the tests of proxies share."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.space import Batch


def images(count: int = 6, *, size: int = 9, channels: int = 3, classes: int = 4, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    return Batch(
        (torch.randn(count, channels, size, size, generator=rng),),
        torch.randint(classes, (count,), generator=rng),
    )


def made(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """The network, drawn from a seed without touching the global generator for good."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def convolutional() -> nn.Module:
    """Grouped, depthwise, strided, dilated and pointwise convolutions with BatchNorm, in place where that is usual."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.ReLU6(inplace=True),
        nn.Conv2d(8, 12, 3, stride=2, groups=2, padding="valid"),
        nn.Conv2d(12, 12, 3, dilation=2, padding="same", padding_mode="reflect"),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 6, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )


class Shared(nn.Module):
    """One convolution used three times, and two linear layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 5, 1)
        self.again = nn.Conv2d(5, 5, 3, padding=1)
        self.a, self.b, self.last = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 4)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for _ in range(3):
            x = F.relu(self.again(x), inplace=True) + x.mean((1, 2, 3), keepdim=True)
        x = x.mean((2, 3))
        out: Tensor = self.last(self.b(torch.tanh(self.a(x))))
        return out


class Sentences(nn.Module):
    """Embedded tokens, attention of linear layers, a LayerNorm; one class a sentence."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.query, self.key, self.value = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.norm, self.last = nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        x = x + F.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))
        out: Tensor = self.last(self.norm(x).mean(1))
        return out


class Messages(nn.Module):
    """Two rounds of summing over neighbours: the loss of one node depends on what is known of others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 3)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        x = torch.relu(self.norm(self._summed(self.first(x), edges)))
        return self._summed(self.second(x), edges)

    def _summed(self, x: Tensor, edges: Tensor) -> Tensor:
        return x.index_add(0, edges[1], x[edges[0]])


def dead(kind: str) -> nn.Module:
    """A network through which nothing flows: "input" has no way in, "output" gives zeros whatever comes."""

    class Zero(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 0.0

    if kind == "input":
        return nn.Sequential(Zero(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 49, 4))
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 49, 4), Zero())


def state(model: nn.Module) -> dict[str, object]:
    """All that a pass might change: tensors, gradients, what wants one, modes, hooks."""
    found: dict[str, object] = {f"mode {n}": m.training for n, m in model.named_modules()}
    found |= {f"hooks {n}": (len(m._forward_hooks), len(m._backward_hooks)) for n, m in model.named_modules()}
    found |= {f"inplace {n}": getattr(m, "inplace", None) for n, m in model.named_modules()}
    for name, tensor in model.state_dict(keep_vars=True).items():
        found[name] = copy.deepcopy(tensor.detach()).numpy().tobytes()
        found[f"grad {name}"] = (tensor.requires_grad, tensor.grad)
    return found
