"""Torch's own generators, seeded for one purpose: for what cannot be told to draw from a generator of ours."""

from __future__ import annotations

import torch


def seeded(seed: int, device: str) -> None:
    """Seed the generators that a computation on this device may draw from. Call it within `torch.random.fork_rng`."""
    # torch.manual_seed would also reset the generators of all other GPUs.
    torch.default_generator.manual_seed(seed)
    for index in generators(device):
        torch.cuda.default_generators[index].manual_seed(seed)


def generators(device: str) -> list[int]:
    """The indices of the CUDA generators that this device draws from, as `fork_rng` wants them; none for the CPU."""
    return [torch.device(device).index or 0] if device.startswith("cuda") else []
