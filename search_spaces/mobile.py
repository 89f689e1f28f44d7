"""Image: mobile networks with elastic resolution, depth, width, kernel and expansion (Once-for-All, Cai et al. 2020,
arXiv:1908.09791; sizes of MobileNetV3, Howard et al. 2019, arXiv:1905.02244).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from search_spaces.choices import Architecture, Choice, ChoiceTable
from search_spaces.elastic import inherited
from search_spaces.errors import SpaceError
from search_spaces.layout import block_choice, check_ascending, check_positive, check_stages, preset, texts
from search_spaces.mobile_blocks import ElasticInvertedResidual, InvertedResidual, Separable
from search_spaces.mobile_layout import PRESETS, Layout
from search_spaces.mobile_net import ElasticMobileNet
from search_spaces.space import SearchSpace, Signature
from search_spaces.units import linear, unit


@dataclass(frozen=True)
class MobileSpace(SearchSpace):
    """Mobile networks with elastic resolution, depth, width, kernel and expansion (Cai et al. 2020, arXiv:1908.09791).

    `preset` is digits, 28, 32 or imagenet; auto takes the one for the image size. Empty settings are the preset's;
    `depths`, `kernels`, `expansions` and `multipliers` (of `widths`) are the options of every stage, and
    `resolutions` are image heights: up to 1 in parts of the given one, above in pixels. Kernels larger than the maps
    of a stage are no options there.
    """

    signature: Signature = Signature("image", (3, 32, 32), 10)
    preset: str = "auto"
    widths: tuple[int, ...] = ()
    depths: tuple[int, ...] = ()
    kernels: tuple[int, ...] = ()
    expansions: tuple[float, ...] = ()
    multipliers: tuple[float, ...] = ()
    resolutions: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        layout = self.layout
        check_stages(widths=layout.widths, preset=layout.strides)
        check_positive("widths", layout.widths)
        for field in ("kernels", "expansions", "multipliers", "resolutions"):
            check_ascending(field, getattr(layout, field))
        for depths in layout.depths:
            check_ascending("depths", depths)
        if any(k % 2 == 0 for k in layout.kernels):
            raise ValueError(f"kernels={layout.kernels!r} must be odd, so that they have a centre")
        check_ascending("resolutions in pixels", [height for height, _ in self.sizes])

    @cached_property
    def layout(self) -> Layout:
        """The preset with the settings given laid over it."""
        layout = preset(PRESETS, self.preset, self.signature)
        return replace(
            layout,
            widths=self.widths or layout.widths,
            depths=(self.depths,) * len(layout.widths) if self.depths else layout.depths,
            kernels=self.kernels or layout.kernels,
            expansions=self.expansions or layout.expansions,
            multipliers=self.multipliers or layout.multipliers,
            resolutions=self.resolutions or layout.resolutions,
        )

    @cached_property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each resolution, in pixels; the given images' proportions are kept."""
        _, height, width = self.signature.shape
        heights = [round(height * r) if r <= 1 else round(r) for r in self.layout.resolutions]
        return tuple((h, max(1, round(h * width / height))) for h in heights)

    @cached_property
    def kernels_of(self) -> tuple[tuple[int, ...], ...]:
        """The kernel sizes worth having in each stage, at the largest resolution."""
        layout, side = self.layout, -(-max(self.sizes[-1]) // self.layout.stem_stride)
        useful = []
        for stride in layout.strides:
            side = -(-side // stride)
            useful.append(tuple(k for k in layout.kernels if k <= side) or layout.kernels[:1])
        return tuple(useful)

    @cached_property
    def table(self) -> ChoiceTable:
        """The resolution; per stage: depth, width; then the kernel and expansion of each block."""
        layout = self.layout
        choices = [Choice("net.resolution", texts([height for height, _ in self.sizes]))]
        for s, depths in enumerate(layout.depths, 1):
            choices.append(Choice(f"stage{s}.depth", texts(depths)))
            choices.append(Choice(f"stage{s}.width", texts(layout.multipliers)))
            for b in range(1, depths[-1] + 1):
                choices.append(block_choice(s, b, "kernel", self.kernels_of[s - 1], depths))
                choices.append(block_choice(s, b, "expand", layout.expansions, depths))
        return ChoiceTable("mobile", tuple(choices))

    def build(self, arch: Architecture) -> nn.Module:
        """See `SearchSpace.build`; the network reads images of the given size and resizes them itself."""
        layout, at = self.layout, self.table.positions(arch)
        layers = OrderedDict[str, nn.Module]()
        if (size := self.sizes[at["net.resolution"]]) != self.signature.shape[1:]:
            layers["resize"] = nn.Upsample(size, mode="bilinear", align_corners=False)
        layers["stem"] = unit(self.signature.shape[0], layout.stem, 3, stride=layout.stem_stride, act="hswish")
        if layout.entry == "separable":
            layers["entry"] = Separable(layout.stem)
        layers["stages"] = nn.Sequential(*(self._stage(s, at) for s in range(len(layout.widths))))
        last = layout.outs[-1][at[f"stage{len(layout.widths)}.width"]]
        layers["head"] = unit(last, layout.head, act="hswish")
        layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
        if layout.features:
            layers["features"] = linear(layout.head, layout.features)
            layers["act"] = nn.Hardswish()
        layers["classifier"] = linear(layout.features or layout.head, self.signature.classes)
        return nn.Sequential(layers)

    def supernet(self) -> ElasticMobileNet:
        """See `SearchSpace.supernet`."""
        return ElasticMobileNet(self.layout, self.signature, sizes=self.sizes, kernels=self.kernels_of)

    def inherit(self, supernet: nn.Module, arch: Architecture) -> dict[str, Tensor]:
        """See `SearchSpace.inherit`; kernel transforms are baked in. Raises SpaceError for another space's supernet."""
        with torch.device("meta"):
            plain = self.build(arch)
        return inherited(supernet, plain)

    def sort_channels(self, supernet: nn.Module) -> None:
        """See `ChannelSorting`."""
        if not isinstance(supernet, ElasticMobileNet):
            raise SpaceError(f"A {type(supernet).__name__} is no supernet of the mobile space.")
        for module in supernet.modules():
            if isinstance(module, ElasticInvertedResidual):
                module.sort_channels()

    def _stage(self, s: int, at: Mapping[str, int]) -> nn.Sequential:
        """Stage `s`, counted from 0, of the network with these option positions."""
        layout, name = self.layout, f"stage{s + 1}"
        own, blocks = at[f"{name}.width"], []
        for b in range(layout.depths[s][at[f"{name}.depth"]]):
            reads = own if b else at.get(f"stage{s}.width", 0)
            expand = at[f"{name}.block{b + 1}.expand"]
            block = InvertedResidual(
                layout.reads(s, b)[reads],
                layout.hidden(s, b)[reads][expand],
                layout.outs[s][own],
                kernel=self.kernels_of[s][at[f"{name}.block{b + 1}.kernel"]],
                stride=None if b else layout.strides[s],
                squeezed=layout.squeezed(s, b)[reads][expand] if layout.excite[s] else None,
                act=layout.acts[s],
            )
            blocks.append(block)
        return nn.Sequential(*blocks)
