"""Small networks whose channels can be removed, each with one way to couple them; and one that resists."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Lambda(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class PaddedBlock(nn.Module):
    """Two convolutions beside a shortcut that halves the picture and puts zeros around the channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        more = (outputs - inputs) // 2
        self.shortcut: nn.Module = nn.Sequential()
        if inputs != outputs:
            self.shortcut = Lambda(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, more, more)))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class Padded(nn.Module):
    """Three stages of 4, 8 and 16 channels with shortcuts that pad (option A)."""

    def __init__(self, blocks: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        widths = (4, 4, 8, 16)
        for stage, (before, after) in enumerate(zip(widths, widths[1:], strict=False), 1):
            first = PaddedBlock(before, after, 1 if before == after else 2)
            rest = [PaddedBlock(after, after, 1) for _ in range(blocks - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.avg_pool2d(x, x.shape[3]).flatten(1))


class Residual(nn.Module):
    """A stem and one block whose sum couples them; the inner channels are free."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.a = nn.Conv2d(6, 5, 3, padding=1)
        self.bn = nn.BatchNorm2d(5)
        self.act = nn.PReLU(5)
        self.b = nn.Conv2d(5, 6, 1)
        self.scale = nn.Parameter(torch.full((6, 1, 1), 0.5))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.scale * self.b(self.act(self.bn(self.a(x))))
        return self.head(x.mean((2, 3)))


class Grouped(nn.Module):
    """A convolution of four groups with two inputs and three outputs each."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.bn = nn.BatchNorm2d(12)
        self.c = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.bn(self.b(F.relu(self.a(x)))))).amax((2, 3))


class Inverted(nn.Module):
    """An inverted residual with a depthwise convolution and squeeze-and-excitation."""

    def __init__(self, multiplier: int = 1) -> None:
        super().__init__()
        wide = 6 * multiplier
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.expand = nn.Conv2d(4, 6, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, wide, 3, padding=1, groups=6)
        self.bn2 = nn.BatchNorm2d(wide)
        self.squeeze = nn.Conv2d(wide, 3, 1)
        self.excite = nn.Conv2d(3, wide, 1)
        self.project = nn.Conv2d(wide, 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = F.hardswish(self.bn1(self.expand(x)))
        y = F.hardswish(self.bn2(self.depthwise(y)))
        y = y * torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        x = x + self.bn3(self.project(y))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Joined(nn.Module):
    """Two branches side by side, pooled to 2x2 and flattened in front of a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 4, 3, padding=1)
        self.right = nn.Conv2d(3, 5, 1)
        self.fc1 = nn.Linear((4 + 5) * 4, 7)
        self.fc2 = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([F.relu(self.left(x)), F.relu(self.right(x))], 1)
        y = F.adaptive_max_pool2d(y, 2)
        return self.fc2(F.relu(self.fc1(torch.flatten(y, 1))))


class Mixer(nn.Module):
    """An MLP over vectors in a sequence, with a normalised residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 6)
        self.norm = nn.LayerNorm(6)
        self.up = nn.Linear(6, 9)
        self.down = nn.Linear(9, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.down(F.gelu(self.up(self.norm(x))))
        return self.head(x.mean(1))


class Sequence1d(nn.Module):
    """Convolutions over a sequence; the second one has a normalisation without numbers of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv1d(2, 6, 3, padding=1)
        self.norm = nn.InstanceNorm1d(6)
        self.b = nn.Conv1d(6, 4, 3, padding=1)
        self.c = nn.Conv1d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(F.relu(self.norm(self.a(x)))))).amax(2)


class Stubborn(nn.Module):
    """Its pass counts the channels of the first convolution by heart; those of the second are free."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.b = nn.Conv2d(6, 4, 3, padding=1)
        self.c = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.a(x)) * torch.ones(6, 1, 1)
        return self.c(F.relu(self.b(y))).mean((2, 3))


PICTURE = (3, 8, 8)
NETS: dict[str, tuple[Callable[[], nn.Module], Sequence[int]]] = {
    "padded": (Padded, PICTURE),
    "padded-deep": (lambda: Padded(2), PICTURE),
    "residual": (Residual, PICTURE),
    "grouped": (Grouped, PICTURE),
    "inverted": (Inverted, PICTURE),
    "multiplied": (lambda: Inverted(2), PICTURE),
    "joined": (Joined, PICTURE),
    "mixer": (Mixer, (7, 3)),
    "sequence": (Sequence1d, (2, 9)),
}
"""Networks whose groups can all be removed, and the shape of what they read."""


def used(net: nn.Module, seed: int = 0) -> nn.Module:
    """The network in evaluation mode with numbers as after training: nothing is as it was made."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                noise = 0.3 * torch.randn(tensor.shape, generator=draw)
                tensor.add_(noise.abs() if name.endswith("var") else noise)
    return net.eval()


def toy(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A network of NETS and three examples for it; the same at every call."""
    make, shape = NETS[name]
    draw = torch.Generator().manual_seed(1)
    return used(make()), (torch.randn(3, *shape, generator=draw),)
