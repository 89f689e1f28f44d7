"""A model of layers that are not yours: a transformer that reads an image in patches, made of torch's own encoder.

nascli train --model examples.torch_encoder:digits_encoder --data digits --epochs 20
"""

import torch
from torch import Tensor, nn


class TorchEncoder(nn.Module):
    """Images [n, channels, size, size] in square patches to logits [n, classes]."""

    def __init__(
        self,
        *,
        channels: int = 3,
        size: int = 32,
        classes: int = 10,
        patch: int = 4,
        width: int = 128,
        depth: int = 6,
        heads: int = 4,
        hidden: int = 256,
        dropout: float = 0.0,
        norm_first: bool = True,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.positions = nn.Parameter(0.5 * torch.randn(1, (size // patch) ** 2, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, hidden, dropout, "gelu", batch_first=True, norm_first=norm_first
        )
        # Nested tensors are for batches with padding, and torch warns where they can't be had.
        self.encoder = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, classes]: of each feature, the most that any token has."""
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.encoder(tokens).amax(1))


def digits_encoder(norm_first: bool = True) -> nn.Module:
    """A small one for the 8x8 images of `--data digits`."""
    return TorchEncoder(channels=1, size=8, patch=2, width=48, depth=3, heads=4, hidden=96, norm_first=norm_first)
