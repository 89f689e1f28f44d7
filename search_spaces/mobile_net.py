"""The supernet of a family of mobile networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.elastic import ElasticLinear
from search_spaces.gated import Pick, Width, deepened, mixed, pick, width
from search_spaces.mobile_blocks import ElasticInvertedResidual, ElasticSeparable
from search_spaces.mobile_layout import Layout
from search_spaces.space import Gates, Signature
from search_spaces.units import ElasticUnit, channels_last


class ElasticMobileNet(nn.Module):
    """All networks of a layout in one; `sizes` are the resolutions, `kernels` the kernel sizes of each stage."""

    def __init__(
        self,
        layout: Layout,
        signature: Signature,
        *,
        sizes: Sequence[tuple[int, int]],
        kernels: Sequence[Sequence[int]],
    ) -> None:
        super().__init__()
        self.layout, self.sizes = layout, sizes
        self.stem = ElasticUnit(signature.shape[0], layout.stem, (3,), stride=layout.stem_stride, act="hswish")
        self.entry = ElasticSeparable(layout.stem) if layout.entry == "separable" else nn.Identity()
        self.stages = nn.ModuleList(_stage(layout, s, kernels[s]) for s in range(len(layout.widths)))
        self.head = ElasticUnit(layout.outs[-1][-1], layout.head, act="hswish")
        self.features = ElasticLinear(layout.head, layout.features) if layout.features else None
        self.classifier = ElasticLinear(layout.features or layout.head, signature.classes)
        # Read in every forward pass, so counted once.
        self._hidden = [[layout.hidden(s, b) for b in range(d[-1])] for s, d in enumerate(layout.depths)]
        self._squeezed = [[layout.squeezed(s, b) for b in range(d[-1])] for s, d in enumerate(layout.depths)]

    def forward(self, x: Tensor, *, gates: Gates) -> Tensor:
        """Logits [n, classes] of images [n, c, h, w]."""
        return mixed(pick(gates, "net.resolution"), lambda r: self._logits(_resized(x, self.sizes[r]), gates))

    def _logits(self, x: Tensor, gates: Gates) -> Tensor:
        x = self.entry(self.stem(channels_last(x), Width(self.layout.stem)))
        reads: Pick = 0
        for s in range(len(self.stages)):
            own = pick(gates, f"stage{s + 1}.width")
            x = self._through(x, s, gates, reads=reads, own=own)
            reads = own
        x = self.head(x, Width(self.layout.head)).mean((2, 3))
        if self.features is not None:
            x = F.hardswish(self.features(x))
        logits: Tensor = self.classifier(x)
        return logits

    def _through(self, x: Tensor, s: int, gates: Gates, *, reads: Pick, own: Pick) -> Tensor:
        """What stage `s` makes of `x`, given what its first block reads and its own width."""
        name, blocks, layout = f"stage{s + 1}", cast(nn.ModuleList, self.stages[s]), self.layout
        outputs = width(layout.outs[s], own)

        def block(b: int, x: Tensor) -> Tensor:
            read, expand = own if b else reads, pick(gates, f"{name}.block{b + 1}.expand")
            hidden = width(self._hidden[s][b], read, expand)
            squeezed = width(self._squeezed[s][b], read, expand)
            result: Tensor = blocks[b](x, hidden, squeezed, outputs, pick(gates, f"{name}.block{b + 1}.kernel"))
            return result

        return deepened(x, pick(gates, f"{name}.depth"), layout.depths[s], block)


def _stage(layout: Layout, s: int, kernels: Sequence[int]) -> nn.ModuleList:
    return nn.ModuleList(
        ElasticInvertedResidual(
            layout.reads(s, b)[-1],
            layout.hidden(s, b)[-1][-1],
            layout.outs[s][-1],
            kernels=kernels,
            stride=None if b else layout.strides[s],
            squeezed=layout.squeezed(s, b)[-1][-1] if layout.excite[s] else None,
            act=layout.acts[s],
        )
        for b in range(layout.depths[s][-1])
    )


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=False)
