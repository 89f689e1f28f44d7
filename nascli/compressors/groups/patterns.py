"""Groups that can only become zero, which pays where hardware skips zeros or files are packed: filter shapes (Wen et
al. 2016, arXiv:1608.03665), weights, n of each m weights (Mishra et al. 2021, arXiv:2104.08378), and tiles.

Weights are seen as matrices [outputs, inputs * kernel], as torch lays them out. The axis is the layer everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from nascli.compressors.groups.tile_file import read_tiles, tile_for
from nascli.errors import SettingsError
from search_spaces.groups import Groups, Part

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
"""How attention modules call weights that belong to no layer of their own."""


def filter_shapes(model: nn.Module) -> Groups:
    """One group a column of each convolution's matrix: one input channel at one place of the kernel, for all outputs.

    Where the layer itself works in groups of channels, each of these has columns of its own.
    """
    pieces, left_out = [], {}
    for name, layer in model.named_modules():
        if isinstance(layer, _CONVOLUTIONS):
            columns = torch.arange(layer.groups * layer.weight[0].numel()).view(layer.groups, *layer.weight.shape[1:])
            owners = columns.repeat_interleave(layer.out_channels // layer.groups, 0)
            pieces.append((name, _of(name, "weight"), columns[:1] if layer.groups == 1 else owners))
        elif isinstance(layer, _TRANSPOSED):
            left_out[name] = "Filter shapes are those of convolutions that are not transposed."
    return _groups(pieces, left_out)


def weights(model: nn.Module) -> Groups:
    """One group a weight of each convolution, linear layer and projection of attention; biases always stay."""
    return _groups([(name, t, _numbered(w)) for name, t, w in _matrices(model)], {})


def n_of_m(model: nn.Module, m: int) -> tuple[Groups, Tensor]:
    """Single weights as groups, and their numbers in blocks of which a pattern keeps n each, [blocks, m].

    A block is m successive inputs of one output; of a convolution, m successive channels at one place of the kernel, as
    sparse tensor cores read them. Layers whose inputs, per output, are no multiple of m are left out. Raises
    SettingsError if m is less than 2.
    """
    if m < 2:
        raise SettingsError(f"A pattern of n of {m!r} weights keeps all or nothing; give blocks of at least 2.")
    pieces, left_out, blocks, start = [], {}, [], 0
    for name, tensor, weight in _matrices(model, transposed=False):
        inputs = weight.shape[1]
        if inputs % m:
            left_out[name] = f"Its {inputs} inputs per output are no multiple of {m}."
            continue
        owners = _numbered(weight)
        pieces.append((name, tensor, owners))
        blocks.append(owners.movedim(1, -1).reshape(-1, m) + start)
        start += owners.numel()
    for name, layer in model.named_modules():
        if isinstance(layer, _TRANSPOSED):
            left_out[name] = "The inputs of a transposed convolution do not lie along its rows."
    return _groups(pieces, left_out), torch.cat(blocks) if blocks else torch.zeros(0, m, dtype=torch.int64)


def tiles(model: nn.Module, path: str) -> Groups:
    """One group a tile of each weight that a JSON file names: {"glob of weights": [rows, columns]}, the first match.

    Sizes are those on the matrix, or one a dimension of the weight: [rows, channels, height, width]. Tiles at the edges
    are what is left. Raises DataError if the file can't be read, SettingsError if what it says fits no weight.
    """
    sizes = read_tiles(path)
    pieces, left_out = [], {}
    there = list(_matrices(model))
    for glob in sizes:
        if not any(tile_for({glob: sizes[glob]}, tensor) for _, tensor, _ in there):
            raise SettingsError(f"{path}: {glob!r} matches no weight; the first is called {_first(there)!r}.")
    for name, tensor, weight in there:
        tile = tile_for(sizes, tensor)
        if not tile:
            left_out[name] = f"No pattern in {path} matches {tensor!r}."
        elif len(tile) not in (2, weight.dim()):
            raise SettingsError(
                f"{path}: a tile of {len(tile)} sizes does not fit {tensor!r}, which has {weight.dim()} dimensions; "
                "give two, or as many as it has."
            )
        else:
            shape = (len(weight), weight[0].numel()) if len(tile) == 2 else tuple(weight.shape)
            pieces.append((name, tensor, _tiled(shape, tile).view(weight.shape)))
    return _groups(pieces, left_out)


def _matrices(model: nn.Module, *, transposed: bool = True) -> Iterator[tuple[str, str, Tensor]]:
    """Each weight once: (layer, tensor, weight)."""
    seen: set[int] = set()
    layers = (nn.Linear, *_CONVOLUTIONS, *(_TRANSPOSED if transposed else ()))
    for name, layer in model.named_modules():
        own = dict(layer.named_parameters(recurse=False))
        for kind in ("weight",) if isinstance(layer, layers) else _PROJECTIONS:
            if kind in own and id(own[kind]) not in seen:
                seen.add(id(own[kind]))
                yield name if kind == "weight" else _of(name, kind), _of(name, kind), own[kind]


def _numbered(weight: Tensor) -> Tensor:
    return torch.arange(weight.numel()).view(weight.shape)


def _tiled(shape: Sequence[int], tile: Sequence[int]) -> Tensor:
    """The tile of each entry, numbered row by row [*shape]."""
    owners = torch.zeros([1] * len(shape), dtype=torch.int64)
    for dim, (size, step) in enumerate(zip(shape, tile, strict=True)):
        along = torch.arange(size) // step
        owners = owners * (-(-size // step)) + along.view([-1 if d == dim else 1 for d in range(len(shape))])
    return owners


def _groups(pieces: Sequence[tuple[str, str, Tensor]], left_out: dict[str, str]) -> Groups:
    """Groups from (layer, tensor, owners that count from 0)."""
    axis, parts, start = [torch.zeros(0, dtype=torch.int64)], [], 0
    for number, (_, tensor, owners) in enumerate(pieces):
        count = int(owners.max()) + 1
        axis.append(torch.full((count,), number))
        parts.append(Part(tensor, owners + start))
        start += count
    return Groups(torch.cat(axis), tuple(name for name, *_ in pieces), tuple(parts), left_out=left_out)


def _of(layer: str, tensor: str) -> str:
    return f"{layer}.{tensor}" if layer else tensor


def _first(matrices: Sequence[tuple[str, str, Tensor]]) -> str:
    return matrices[0][1] if matrices else ""
