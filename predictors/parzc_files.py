"""Fitted predictors as files: tensors as safetensors, all else as JSON in its header; nothing is executed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors.torch import save
from torch import Tensor

from predictors import ScoreError
from predictors.fitted_files import read, write
from predictors.parzc_fit import Fitted
from predictors.parzc_net import ParZCNet, ParZCSettings, Shapes
from predictors.profiles import Layout, Reader, Scale

KIND = "nascli.parzc"
VERSION = 1

_SCALES = ("profile_scale", "score_scale")
_HOW = "fit one first, or give the file that fitting wrote"


def save_fitted(fitted: Fitted, path: str | Path) -> None:
    """Write a predictor; the file appears whole or not at all."""
    tensors = {f"member{i}.{k}": t for i, net in enumerate(fitted.members) for k, t in net.state_dict().items()}
    for name in _SCALES:
        found = getattr(fitted.reader, name)
        if found is not None:
            tensors |= {f"{name}.{part}": torch.as_tensor(values) for part, values in asdict(found).items()}
    header = {
        "settings": asdict(fitted.settings),
        "shapes": asdict(fitted.shapes),
        "layout": asdict(fitted.reader.layout),
        "centres": fitted.centres,
        "score_names": fitted.score_names,
    }
    metadata = {"kind": KIND, "version": str(VERSION), "header": json.dumps(header, allow_nan=False)}
    write(path, save({k: t.contiguous() for k, t in tensors.items()}, metadata=metadata), what="predictor")


def load_fitted(path: str | Path) -> Fitted:
    """The predictor in a file. Raises ScoreError for one that is missing, damaged, foreign or from a newer version."""
    metadata, tensors = read(path, framework="pt", what="predictor", advice=_HOW)
    if metadata.get("kind") != KIND:
        raise ScoreError(f"{str(path)!r} holds tensors, but no fitted ParZC; {_HOW}.")
    if metadata.get("version") != str(VERSION):
        raise ScoreError(
            f"{str(path)!r} has format {metadata.get('version')}, and this version reads {VERSION}; update it, or fit "
            "the predictor again."
        )
    try:
        return _built(json.loads(metadata["header"]), tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # JSON's and pydantic's errors are ValueErrors
        detail = str(error).strip().splitlines()[0][:160].rstrip(".")
        raise ScoreError(f"{str(path)!r} is a damaged predictor ({type(error).__name__}: {detail}); {_HOW}.") from None


def _built(header: dict[str, Any], tensors: dict[str, Tensor]) -> Fitted:
    settings = TypeAdapter(ParZCSettings).validate_python(header["settings"])
    shapes = TypeAdapter(Shapes).validate_python(header["shapes"])
    layout = TypeAdapter(Layout).validate_python(header["layout"])
    reader = Reader(layout, *(_scale(tensors, name) for name in _SCALES))
    members = []
    for i in range(settings.members):
        net, prefix = ParZCNet(settings, shapes), f"member{i}."
        net.load_state_dict({k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)})
        members.append(net.eval())
    centres = tuple((float(mean), float(deviation)) for mean, deviation in header["centres"])
    if len(centres) != len(members):
        raise ValueError(f"{len(members)} members have {len(centres)} centres")
    return Fitted(settings, reader, shapes, tuple(members), centres, tuple(header["score_names"]))


def _scale(tensors: dict[str, Tensor], name: str) -> Scale | None:
    found = {k.removeprefix(f"{name}."): t.numpy() for k, t in tensors.items() if k.startswith(f"{name}.")}
    return Scale(**found) if found else None
