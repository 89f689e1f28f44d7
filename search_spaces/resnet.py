"""Image: residual networks with elastic depth, width and middle width (He et al. 2016, arXiv:1512.03385).

A stage has a depth and a width; each of its blocks has a middle width. On CPUs these networks train faster than
depth-wise ones of the same cost.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.choices import Architecture, Choice, ChoiceTable
from search_spaces.elastic import ElasticLinear, inherited
from search_spaces.errors import SpaceError
from search_spaces.gated import Width, deepened, pick, width
from search_spaces.layout import block_choice, check_ascending, check_positive, check_stages, preset, rounded, texts
from search_spaces.resnet_blocks import Block, ElasticResidual, Residual
from search_spaces.space import Gates, SearchSpace, Signature
from search_spaces.units import ElasticUnit, channels_last, linear, unit


@dataclass(frozen=True)
class Layout:
    """A family of residual networks; tuples of stages first, then options in ascending order."""

    stem: int
    """Channels of the first convolution."""
    widths: tuple[int, ...]
    """Output channels of each stage at multiplier 1."""
    strides: tuple[int, ...]
    depths: tuple[tuple[int, ...], ...]
    """The numbers of blocks that each stage may have."""
    ratios: tuple[float, ...] = (0.25, 0.5, 1.0)
    """Middle channels of a block relative to the stage's."""
    multipliers: tuple[float, ...] = (0.25, 0.5, 1.0)
    block: Block = "basic"
    entry: Literal["small", "large"] = "small"
    """How images come in: 3x3 at full size, or 7x7 and a pool at a quarter of it."""
    divisor: int = 1
    """All elastic channel counts are multiples of this."""

    @cached_property
    def outs(self) -> tuple[tuple[int, ...], ...]:
        """Output channels [stage][multiplier]."""
        return tuple(tuple(rounded(w * m, self.divisor) for m in self.multipliers) for w in self.widths)

    @cached_property
    def middles(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """Middle channels [stage][multiplier][ratio]."""
        return tuple(
            tuple(tuple(rounded(out * r, self.divisor) for r in self.ratios) for out in outs) for outs in self.outs
        )


_SMALL = Layout(16, (16, 32, 64), (2, 2, 2), ((1, 2, 3),) * 3)

PRESETS: Mapping[str, Layout] = {
    "digits": Layout(8, (16, 32), (1, 2), ((1, 2, 3),) * 2),
    "28": _SMALL,
    "32": _SMALL,
    "imagenet": Layout(
        64,
        (256, 512, 1024, 2048),
        (1, 2, 2, 2),
        ((2, 3, 4), (2, 3, 4), (4, 5, 6), (2, 3, 4)),
        ratios=(0.2, 0.25, 0.35),
        multipliers=(0.65, 0.8, 1.0),
        block="bottleneck",
        entry="large",
        divisor=8,
    ),
}

_STEMS: Mapping[str, tuple[int, int]] = {"small": (3, 1), "large": (7, 2)}
"""Kernel and stride of the first convolution."""


@dataclass(frozen=True)
class ResNetSpace(SearchSpace):
    """Residual networks with elastic depth, width and middle width (He et al. 2016, arXiv:1512.03385).

    `preset` is digits, 28, 32 or imagenet; auto takes the one for the image size. Empty settings are the preset's;
    `depths`, `ratios` (middle to outer width) and `multipliers` (of `widths`) are the options of every stage.
    """

    signature: Signature = Signature("image", (3, 32, 32), 10)
    preset: str = "auto"
    block: Literal["auto", "basic", "bottleneck"] = "auto"
    widths: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    depths: tuple[int, ...] = ()
    ratios: tuple[float, ...] = ()
    multipliers: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        layout = self.layout
        if layout.block not in get_args(Block):
            raise ValueError(f"block={self.block!r} is unknown; there are auto, {', '.join(get_args(Block))}")
        check_stages(widths=layout.widths, strides=layout.strides, depths=layout.depths)
        check_positive("widths", layout.widths)
        check_positive("strides", layout.strides)
        for field in ("ratios", "multipliers"):
            check_ascending(field, getattr(layout, field))
        for depths in layout.depths:
            check_ascending("depths", depths)

    @cached_property
    def layout(self) -> Layout:
        """The preset with the settings given laid over it."""
        layout = preset(PRESETS, self.preset, self.signature)
        widths = self.widths or layout.widths
        # Depths that differ by stage fit only the preset's own stages.
        depths = (self.depths,) * len(widths) if self.depths else layout.depths
        return replace(
            layout,
            widths=widths,
            strides=self.strides or layout.strides,
            depths=depths,
            ratios=self.ratios or layout.ratios,
            multipliers=self.multipliers or layout.multipliers,
            block=layout.block if self.block == "auto" else self.block,
        )

    @cached_property
    def table(self) -> ChoiceTable:
        """Per stage: depth, width; then the middle width of each block."""
        choices: list[Choice] = []
        for s, depths in enumerate(self.layout.depths, 1):
            choices.append(Choice(f"stage{s}.depth", texts(depths)))
            choices.append(Choice(f"stage{s}.width", texts(self.layout.multipliers)))
            choices += [block_choice(s, b, "ratio", self.layout.ratios, depths) for b in range(1, depths[-1] + 1)]
        return ChoiceTable("resnet", tuple(choices))

    def build(self, arch: Architecture) -> nn.Module:
        """See `SearchSpace.build`."""
        layout, at = self.layout, self.table.positions(arch)
        inputs, stages = layout.stem, []
        for s, depths in enumerate(layout.depths):
            name, blocks = f"stage{s + 1}", []
            multiplier = at[f"{name}.width"]
            outputs = layout.outs[s][multiplier]
            for b in range(depths[at[f"{name}.depth"]]):
                middle = layout.middles[s][multiplier][at[f"{name}.block{b + 1}.ratio"]]
                stride = None if b else layout.strides[s]
                blocks.append(Residual(layout.block, inputs, middle, outputs, stride=stride))
                inputs = outputs
            stages.append(nn.Sequential(*blocks))
        kernel, stride = _STEMS[layout.entry]
        layers = OrderedDict[str, nn.Module](stem=unit(self.signature.shape[0], layout.stem, kernel, stride=stride))
        if layout.entry == "large":
            layers["shrink"] = nn.MaxPool2d(3, 2, 1)
        layers |= {"stages": nn.Sequential(*stages), "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
        layers["classifier"] = linear(inputs, self.signature.classes)
        return nn.Sequential(layers)

    def supernet(self) -> ElasticResNet:
        """See `SearchSpace.supernet`."""
        return ElasticResNet(self.layout, self.signature)

    def inherit(self, supernet: nn.Module, arch: Architecture) -> dict[str, Tensor]:
        """See `SearchSpace.inherit`; raises SpaceError for the supernet of another space."""
        with torch.device("meta"):
            plain = self.build(arch)
        return inherited(supernet, plain)

    def sort_channels(self, supernet: nn.Module) -> None:
        """See `ChannelSorting`."""
        if not isinstance(supernet, ElasticResNet):
            raise SpaceError(f"A {type(supernet).__name__} is no supernet of the resnet space.")
        for module in supernet.modules():
            if isinstance(module, ElasticResidual):
                module.sort_channels()


class ElasticResNet(nn.Module):
    """All networks of a layout in one."""

    def __init__(self, layout: Layout, signature: Signature) -> None:
        super().__init__()
        self.layout = layout
        kernel, stride = _STEMS[layout.entry]
        self.stem = ElasticUnit(signature.shape[0], layout.stem, (kernel,), stride=stride)
        inputs, self.stages = layout.stem, nn.ModuleList()
        for s, depths in enumerate(layout.depths):
            middle, outputs, blocks = layout.middles[s][-1][-1], layout.outs[s][-1], nn.ModuleList()
            for b in range(depths[-1]):
                stride_here = None if b else layout.strides[s]
                blocks.append(ElasticResidual(layout.block, inputs, middle, outputs, stride=stride_here))
                inputs = outputs
            self.stages.append(blocks)
        self.classifier = ElasticLinear(inputs, signature.classes)

    def forward(self, x: Tensor, *, gates: Gates) -> Tensor:
        """Logits [n, classes] of images [n, c, h, w]."""
        x = self.stem(channels_last(x), Width(self.layout.stem))
        if self.layout.entry == "large":
            x = F.max_pool2d(x, 3, 2, 1)
        for s in range(len(self.stages)):
            x = self._stage(x, s, gates)
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits

    def _stage(self, x: Tensor, s: int, gates: Gates) -> Tensor:
        name, blocks, layout = f"stage{s + 1}", cast(nn.ModuleList, self.stages[s]), self.layout
        multiplier = pick(gates, f"{name}.width")
        outputs = width(layout.outs[s], multiplier)

        def block(b: int, x: Tensor) -> Tensor:
            middle = width(layout.middles[s], multiplier, pick(gates, f"{name}.block{b + 1}.ratio"))
            result: Tensor = blocks[b](x, middle, outputs)
            return result

        return deepened(x, pick(gates, f"{name}.depth"), layout.depths[s], block)
