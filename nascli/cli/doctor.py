"""`nascli doctor`: what this installation has, lacks and can use."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Any

from nascli import __version__
from nascli.cli import console, options
from nascli.cli.plugins import described

CORE = ("torch", "numpy", "typer", "rich", "pydantic", "optuna", "pymoo", "pandas", "safetensors", "scikit-learn")
EXTRAS = {"onnx": "export", "onnxscript": "export", "onnxruntime": "export", "pyarrow": "parquet"}
"""Packages that a command may ask for, and the extra of nascli that brings them."""


def doctor(as_json: options.Json = False) -> None:
    """Check the installation: versions, devices, data folder, runs folder, plugins that do not load."""
    import torch

    from nascli import plugins

    fingerprint = plugins.attribute("predictors.latency:fingerprint", what="the machine's description")
    folder = "runs" if Path("runs").exists() else "."
    facts: dict[str, Any] = {
        "nascli": __version__,
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in CORE},
        "extras": {n: _version(n) or f'missing: pip install "nascli[{extra}]"' for n, extra in EXTRAS.items()},
        "machine": fingerprint("cpu"),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or "no device",
        "data": os.environ.get("NASCLI_DATA") or "NASCLI_DATA is not set; give --data-path, or use --data digits",
        "runs": "writable" if os.access(folder, os.W_OK) else f"{folder!r} can't be written",
        "broken plugins": _broken() or "none",
    }
    console.facts("doctor", facts, as_json=as_json)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _broken() -> list[str]:
    from nascli import plugins

    facts = [described(kind, name) for kind in plugins.kinds() for name in plugins.names(kind)]
    return [f"{f['kind']} {f['name']}: {f['what']}" for f in facts if f["what"].startswith("broken: ")]
