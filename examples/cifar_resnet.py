"""ResNet-20 and ResNet-56 for CIFAR-10 (He et al. 2016, arXiv:1512.03385, section 4.2), to be compressed.

Shortcuts have no weights: where the image shrinks, they take every other pixel and add channels of zeros ("option A").
The names of the layers are those of checkpoints that many use, which saw images normalised by ImageNet's numbers:

    nascli compress resnet20-12fca82f.th --model examples.cifar_resnet:resnet20 --data cifar10 --level 0.5 \\
        --set 'data.mean=[0.485, 0.456, 0.406]' --set 'data.std=[0.229, 0.224, 0.225]'
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (16, 32, 64)


class Shortcut(nn.Module):
    """Every other pixel, with channels of zeros before and behind that make up the new width."""

    def __init__(self, added: int) -> None:
        super().__init__()
        self.before, self.after = added // 2, added - added // 2

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, c, h, w] to [n, c + added, h / 2, w / 2]."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class Block(nn.Module):
    """Two convolutions around which the input passes by."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        wider = width_in < width
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=2 if wider else 1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = Shortcut(width - width_in) if wider else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, c, h, w] to images, half as high and wide where there are more channels."""
        inner = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class ResNet(nn.Module):
    """A convolution, three stages of blocks, and the mean of what is left as input of the classifier."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = stage(WIDTHS[0], WIDTHS[0], blocks)
        self.layer2 = stage(WIDTHS[0], WIDTHS[1], blocks)
        self.layer3 = stage(WIDTHS[1], WIDTHS[2], blocks)
        self.linear = nn.Linear(WIDTHS[2], 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, 3, 32, 32] to logits [n, 10]."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def stage(width_in: int, width: int, blocks: int) -> nn.Sequential:
    """Blocks in a row, of which the first changes the width."""
    return nn.Sequential(*(Block(width if i else width_in, width) for i in range(blocks)))


def resnet20() -> nn.Module:
    """Three blocks a stage: 0.27 million parameters, 40.6 million multiply-adds."""
    return ResNet(3)


def resnet56() -> nn.Module:
    """Nine blocks a stage: 0.86 million parameters, 125 million multiply-adds."""
    return ResNet(9)
