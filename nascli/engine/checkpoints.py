"""Tensors on disk: what is read is never executed, and what is written is whole, described and checksummed.

Files are told apart by their first bytes, not their names. A pickle may call whatever it can name, so torch files are
read by torch's restricted unpickler alone, and there is no way around it.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from nascli.engine.files import read_json, replacing, write_json
from nascli.errors import DataError, VerifyError

NESTED_UNDER = ("state_dict", "model", "net", "state_dict_ema")
"""Keys below which training scripts keep the weights, beside epoch and optimiser; the first one there counts."""
PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""
EXPANSION = 16
"""How many times larger than its file a checkpoint may be in memory: compression and stride tricks make bombs."""

_CONVERT = (
    "If you trust it, load it in your own code and keep its weights alone: "
    "safetensors.torch.save_file(model.state_dict(), 'new.safetensors')."
)
_DAMAGED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)
"""What reading a damaged file can end in: its bytes steer the reader, so the reader's mistakes are the file's."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a torch state dict, by name, on the CPU.

    Weights below "state_dict", "model", "net" or "state_dict_ema" are found, and "module." before every name is taken
    off. Raises DataError for everything else: missing, damaged, not tensors alone, or asking for code to be run.
    """
    with _explained(path):
        with path.open("rb") as file:
            start = file.read(9)
        if start[8:] == b"{" or path.suffix == ".safetensors":
            return load_file(path)
        if start.startswith(b"PK\x03\x04"):
            _refuse_bomb(path, sum(entry.file_size for entry in zipfile.ZipFile(path).infolist()))
        elif not start.startswith(b"\x80"):
            raise DataError(f"{path} is neither a safetensors file nor a state dict stored by torch.save. {_CONVERT}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
    return _plain_names(_tensors(_weights(found), path))


def read_for(path: Path, model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a file that are all of the model's, and no others; the model is filled with them.

    Statistics that old checkpoints lack (how many batches BatchNorm has seen) are the model's own. Raises DataError
    naming the first tensor that does not fit, and as `read_tensors`.
    """
    tensors = read_tensors(path)
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        reason = _mismatch(tensors, model.state_dict()) or " ".join(str(error).split())[:160].rstrip(".")
        raise DataError(f"{path} holds no weights of this network: {reason}.") from None
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Store tensors as `path` (which ends in .safetensors) and their description beside it as .json, each atomically.

    The JSON gets the SHA-256 of the tensors' file as "sha256". Tensors that share memory are stored once each. Raises
    RunError if the disk refuses, ValueError if the description is not JSON.
    """
    with replacing(path) as temporary:
        # Through memory: on a full disk, the library's own writer raises what can't be told from a bug.
        temporary.write_bytes(save(_separate(tensors), metadata={"format": "pt"}))
        digest = _sha256(temporary)
    write_json(path.with_suffix(".json"), {**description, "sha256": digest})


def read_described(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` stored: tensors and description.

    Raises DataError if either is missing or unreadable, VerifyError if they do not belong together.
    """
    beside = path.with_suffix(".json")
    if not beside.is_file():
        raise DataError(f"{path} has no description: {beside.name} is missing beside it; copy both files together.")
    tensors = read_tensors(path)
    description = read_json(beside)
    if not isinstance(description, dict) or "sha256" not in description:
        raise DataError(f"{beside} describes no tensors: it has no 'sha256'. Give a file that nascli wrote.")
    expected = description.pop("sha256")
    if (digest := _sha256(path)) != expected:
        raise VerifyError(
            f"{path} is not the file that {beside.name} describes (SHA-256 {digest[:12]}... instead of "
            f"{str(expected)[:12]}...): it was changed or damaged. Restore both from a copy."
        )
    return tensors, description


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    if not path.is_file():
        what = "is a folder; give the file in it" if path.is_dir() else "does not exist; check the path"
        raise DataError(f"The checkpoint {str(path)!r} {what}.")
    try:
        yield
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"asks for {asked[1]}, and only tensors are read" if asked else "is damaged or holds more than tensors"
        raise DataError(f"{path} is a pickle that {what}. {_CONVERT}") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from None
    except _DAMAGED as error:
        detail = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise DataError(f"{path} is damaged, or no checkpoint ({detail[:160].rstrip('.')}); fetch it anew.") from None


def _refuse_bomb(path: Path, size: int) -> None:
    if size > EXPANSION * (path.stat().st_size + 4096):
        raise DataError(f"{path} would take {size:,} bytes in memory, far more than the file has; it is not read.")


def _weights(found: Any) -> Any:
    if isinstance(found, Mapping):
        return next((found[k] for k in NESTED_UNDER if isinstance(found.get(k), Mapping)), found)
    return found


def _tensors(found: Any, path: Path) -> dict[str, Tensor]:
    """The mapping, once all of it is known to be names of dense tensors."""
    if not isinstance(found, Mapping) or not found:
        what = "an empty dict" if isinstance(found, Mapping) else f"a {type(found).__name__}"
        raise DataError(f"{path} holds {what}, not a dict of tensors by name. {_CONVERT}")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise DataError(f"{path} holds {name!r}: a {type(value).__name__}, not a tensor. {_CONVERT}")
        if value.layout is not torch.strided or value.is_quantized or value.device.type != "cpu":
            raise DataError(f"{path} holds {name!r}, which is no dense tensor with data; make it dense before storing.")
    _refuse_bomb(path, sum(value.numel() * value.element_size() for value in found.values()))
    return {name: value.detach() for name, value in found.items()}


def _plain_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without the prefixes that wrappers put before every name."""
    while prefix := next((p for p in PREFIXES if all(n.startswith(p) for n in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _mismatch(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """What is wrong with the first tensor that does not fit, in the model's order; "" if it is none of these."""
    for name, tensor in expected.items():
        if name not in found and not name.endswith("num_batches_tracked"):
            other = next((n for n in found if n not in expected), None)
            return f"it has no {name!r}" + (f", but {other!r}, which the network has not" if other else "")
        if name in found and found[name].shape != tensor.shape:
            shapes = [list(t.shape) for t in (found[name], tensor)]
            return f"its {name!r} is {shapes[0]}, and the network's is {shapes[1]}"
    return next((f"it has {name!r}, which the network has not" for name in found if name not in expected), "")


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU, no two of which share memory, as safetensors demands."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        separate[name] = plain.clone() if place in seen else plain
        seen.add(place)
    return separate


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
