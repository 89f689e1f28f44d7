"""Files of fitted predictors: safetensors with a kind, a version and a JSON header, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from predictors import ScoreError


def write(path: str | Path, data: bytes, *, what: str) -> None:
    """Replace a file by these bytes; raises ScoreError saying why `what` ("regressor") can't be written."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ScoreError(f"The {what} can't be written to {str(path)!r}: {error.strerror}.") from None


def read(path: str | Path, *, framework: str, what: str, advice: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The metadata and tensors of a file; raises ScoreError if it is missing or no safetensors file."""
    opened: Callable[..., Any] = safe_open
    try:
        with opened(path, framework=framework) as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise ScoreError(f"The {what} {str(path)!r} does not exist; {advice}.") from None
    except (OSError, SafetensorError) as error:
        raise ScoreError(f"{str(path)!r} is no fitted {what} ({error}); {advice}.") from None
