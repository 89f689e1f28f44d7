"""Networks whose tensors are not as they were made."""

from __future__ import annotations

import torch
from torch import nn


def stirred(net: nn.Module, seed: int = 0) -> nn.Module:
    """The network in double precision and evaluation mode, with every tensor as training might leave it."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=rng)
                tensor.add_(noise.abs() if key.endswith("var") else 0.3 * noise)
    return net.double().eval()
