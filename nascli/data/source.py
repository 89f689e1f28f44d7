"""From a name to data that keep their word: any reader, ours or the user's, is held against its own signature once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

import torch

from nascli import plugins, settings
from nascli.data.streams import Data, Split
from nascli.errors import DataError, SettingsError
from search_spaces.space import Batch, Signature

_FIRST = 32
"""Examples of each split that are looked at."""


def read(name: str, values: Mapping[str, Any], *, origins: Mapping[str, str] | None = None) -> Data:
    """The data set called `name`, or made by a user's "package.module:factory", with these settings.

    The factory is a dataclass with `load()`, or a callable that takes the settings by keyword; `origins` says where
    single settings were written. Raises SettingsError for unknown names and settings, and DataError if the data are
    missing, empty, or unlike their signature.
    """
    data = _made(plugins.load("data", name), values, where=f"data {name!r}", origins=origins)
    if not isinstance(data, Data):
        raise DataError(f"data {name!r} returned a {type(data).__name__} instead of a nascli.data.Data.")
    for purpose, split in {"train": data.train, "val": data.val, "test": data.test}.items():
        _check(split, data.signature, where=f"data {name!r}, {purpose} split")
    return data


def _made(source: Any, values: Mapping[str, Any], *, where: str, origins: Mapping[str, str] | None) -> Any:
    if isinstance(source, type) and is_dataclass(source):
        built: Any = settings.build(source, values, where=where, origins=origins, table="data")
        if not callable(getattr(built, "load", None)):
            raise SettingsError(
                f"{where}: {source.__name__} has no method load(); a data source is a dataclass that has."
            )
        return built.load()
    if not callable(source):
        raise SettingsError(f"{where} is a {type(source).__name__}; give a dataclass with load(), or a function.")
    try:
        inspect.signature(source).bind(**values)
    except TypeError as error:
        raise SettingsError(f"{where} does not take these settings ({error}); change --set data.NAME=VALUE.") from None
    return source(**values)


def _check(split: Split, signature: Signature, *, where: str) -> None:
    """Raises DataError unless the first batch is what the signature says."""
    batch = next(iter(split.batches(_FIRST)), None) if len(split) else None
    if batch is None or not len(batch.targets):
        raise DataError(f"{where}: it is empty; every split needs at least one example.")
    shape = tuple(batch.inputs[0].shape[1:])
    if shape != signature.shape:
        raise DataError(f"{where}: its examples have the shape {shape}, but the signature says {signature.shape}.")
    _check_targets(batch, signature, where=where)


def _check_targets(batch: Batch, signature: Signature, *, where: str) -> None:
    targets = batch.targets if batch.mask is None else batch.targets[batch.mask]
    if targets.dtype != torch.int64:
        raise DataError(f"{where}: its labels are {targets.dtype}, and torch.int64 is needed.")
    if targets.numel() and (int(targets.min()) < 0 or int(targets.max()) >= signature.classes):
        raise DataError(
            f"{where}: its labels run from {int(targets.min())} to {int(targets.max())}, but the signature says "
            f"{signature.classes} classes, 0 to {signature.classes - 1}."
        )
