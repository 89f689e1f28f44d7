"""The map of the system: names to "module:attribute", ours in one table and third parties' by entry points.

Importing this imports none of them. A full "package.module:attribute" works wherever a name does.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from nascli.errors import SettingsError, did_you_mean

BUILT_IN: Mapping[str, Mapping[str, str]] = {
    "space": {
        "mobile": "search_spaces.mobile:MobileSpace",
        "resnet": "search_spaces.resnet:ResNetSpace",
        "darts": "search_spaces.darts:DartsSpace",
        "nb201": "search_spaces.nb201:Nb201Space",
        "nb101": "search_spaces.nb101:Nb101Space",
        "module": "search_spaces.module:ModuleSpace",
        "table": "search_spaces.table:TableSpace",
    },
    "strategy": {
        "random": "nascli.strategies.random:Random",
        "evolution": "nascli.strategies.evolution:Evolution",
        "regularised": "nascli.strategies.regularised:Regularised",
        "reinforce": "nascli.strategies.reinforce:Reinforce",
        "bayes": "nascli.strategies.bayes:Bayes",
        "listed": "nascli.strategies.listed:Listed",
        "darts": "nascli.strategies.gradient.darts:Darts",
        "darts-pt": "nascli.strategies.gradient.darts_pt:DartsPT",
    },
    "recipe": {
        "single-path": "nascli.recipes.supernet:SinglePath",
        "sandwich": "nascli.recipes.supernet:Sandwich",
        "progressive": "nascli.recipes.supernet:Progressive",
        "plain": "nascli.recipes.plain:Plain",
        "cells": "nascli.recipes.cells:Cells",
    },
    "data": {
        "digits": "nascli.data.builtin:Digits",
        "cifar10": "nascli.data.cifar:Cifar10",
        "fashion-mnist": "nascli.data.idx:FashionMnist",
        "mnist": "nascli.data.idx:Mnist",
        "folder": "nascli.data.folder:Folder",
        "npz": "nascli.data.npz:Npz",
    },
    "objective": {
        "accuracy": "nascli.engine.objectives:ACCURACY",
        "loss": "nascli.engine.objectives:LOSS",
        "macs": "nascli.engine.objectives:MACS",
        "params": "nascli.engine.objectives:PARAMS",
        "size_bytes": "nascli.engine.objectives:SIZE_BYTES",
        "latency_ms": "nascli.engine.objectives:LATENCY_MS",
        "nonzero": "nascli.engine.objectives:NONZERO",
    },
    "latency": {
        "measured": "predictors.latency:Measured",
        "roofline": "predictors.latency:Roofline",
        "table": "predictors.latency:Table",
    },
    "proxy": {
        "gradsign": "predictors.gradsign:GradSign",
        "gradsign_mean": "predictors.gradsign:GradSignMean",
        "gradsign_excess": "predictors.gradsign:GradSignExcess",
        "params": "predictors.counts:Params",
        "macs": "predictors.counts:Macs",
        "l2_norm": "predictors.saliency:L2Norm",
        "grad_norm": "predictors.saliency:GradNorm",
        "plain": "predictors.saliency:Plain",
        "snip": "predictors.saliency:Snip",
        "grasp": "predictors.saliency:Grasp",
        "fisher": "predictors.saliency:Fisher",
        "synflow": "predictors.saliency:SynFlow",
        "jacov": "predictors.jacobian:Jacov",
        "epe_nas": "predictors.jacobian:EpeNas",
        "nwot": "predictors.activation:Nwot",
        "linear_regions": "predictors.activation:LinearRegions",
        "zico": "predictors.zico:Zico",
        "meco": "predictors.meco:Meco",
        "swap": "predictors.activation:Swap",
        "zen": "predictors.zen:Zen",
        "ntk": "predictors.ntk:NtkCondition",
        "aznas_expressivity": "predictors.aznas:AzExpressivity",
        "aznas_progressivity": "predictors.aznas:AzProgressivity",
        "aznas_trainability": "predictors.aznas:AzTrainability",
        "vkdnw": "predictors.vkdnw:Vkdnw",
        "vkdnw_dim": "predictors.vkdnw:VkdnwDim",
        "vkdnw_single": "predictors.vkdnw:VkdnwSingle",
        "tcet": "predictors.tcet:TCet",
        "parzc": "predictors.parzc:ParZC",
        "parzc_free": "predictors.parzc:ParZCFree",
    },
    "compressor": {
        "wgsef": "nascli.compressors.wgsef:WGSEF",
        "magnitude": "nascli.compressors.oneshot:Magnitude",
        "taylor": "nascli.compressors.oneshot:Taylor",
        "bn-scale": "nascli.compressors.oneshot:BNScale",
        "random": "nascli.compressors.oneshot:RandomGroups",
        "torch-pruning": "nascli.compressors.oneshot:TorchPruning",
    },
    "sweep": {
        "sweep": "nascli.compressors.sweep:Sweep",
    },
    "edit": {
        "keep": "search_spaces.keep:Keep",
    },
}


@cache
def _table(kind: str) -> dict[str, str | EntryPoint]:
    if kind not in BUILT_IN:
        raise SettingsError(f"There is no kind of plugin called {kind!r}.{did_you_mean(kind, BUILT_IN)}")
    found: dict[str, str | EntryPoint] = dict(BUILT_IN[kind])
    for point in entry_points(group=f"nascli.{kind}"):
        if point.name in found:
            owner = found[point.name]
            first = owner.value if isinstance(owner, EntryPoint) else owner
            both = f"{first} and {point.value}"
            raise SettingsError(f"Two {kind} plugins are called {point.name!r}: {both}; uninstall one.")
        found[point.name] = point
    return found


def kinds() -> list[str]:
    """The kinds of plugins there are."""
    return sorted(BUILT_IN)


def names(kind: str) -> list[str]:
    """The names known for a kind, in the table's order, ours first."""
    return list(_table(kind))


def target(kind: str, name: str) -> str:
    """The "module:attribute" behind a name, without importing it; raises SettingsError with a suggestion."""
    if ":" in name:
        return name
    table = _table(kind)
    if name not in table:
        raise SettingsError(f"No {kind} is called {name!r}.{did_you_mean(name, table)}")
    found = table[name]
    return found.value if isinstance(found, EntryPoint) else found


def load(kind: str, name: str) -> Any:
    """The object behind a name or a "package.module:attribute"; raises SettingsError saying why it did not load."""
    return attribute(target(kind, name), what=f"{kind} {name!r}")


def attribute(path: str, *, what: str) -> Any:
    """What "package.module:attribute" points at; the working directory is searched too, as `python -m` does.

    Raises SettingsError naming the part that is missing. An error *inside* the user's module passes through.
    """
    module_name, _, attribute_path = path.partition(":")
    if not module_name or not attribute_path:
        raise SettingsError(f"{what}: {path!r} is not of the form 'package.module:attribute'.")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            problem = f"{module_name} needs the module {error.name!r}, which is not installed"
        else:
            problem = f"there is no module {module_name!r} here or among the installed packages"
        raise SettingsError(f"{what}: {problem}.") from None
    for part in attribute_path.split("."):
        if not hasattr(found, part):
            public = [n for n in dir(found) if not n.startswith("_")]
            raise SettingsError(f"{what}: {module_name} has no {attribute_path!r}.{did_you_mean(part, public)}")
        found = getattr(found, part)
    return found
