"""A found network as files that run without nascli, each compared first with the network it came from.

Always: model.safetensors (weights) and model.json (what the network is, its layers, how far each form is from it).
"torch" adds model.py, plain PyTorch source; "onnx" adds model.onnx; "pt2" adds model.pt2, a torch.export program.
Loading a .pt2 unpickles it, so load only those that you made or whose maker you trust; nascli reads none.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nascli.engine.checkpoints import write_tensors
from nascli.engine.files import explained
from nascli.engine.standalone import Standalone, standalone
from nascli.errors import SettingsError, UnsupportedError, VerifyError, did_you_mean

Inputs = tuple[Tensor, ...]
Outputs = Sequence[Tensor]
Runner = Callable[[Inputs], Outputs]
"""An exported form, loaded and ready to be fed."""

TOLERANCE = {"torch": 1e-5, "pt2": 1e-5, "onnx": 1e-4}
"""The largest difference allowed between a form's outputs and the network's, relative to outputs greater than 1."""
INLINE_BYTES = 1 << 30
"""An ONNX file can't exceed 2 GiB; weights beyond this go into a file beside it."""
_EXTRA = ("onnx", "onnxruntime", "onnxscript")


def export(
    model: nn.Module,
    example: tuple[Tensor, ...],
    out: Path,
    description: Mapping[str, Any],
    *,
    formats: Sequence[str],
) -> list[Path]:
    """The files written to the folder `out`; `example` are inputs of the model, examples along their first dimension.

    The model is left as it is. Either all files are written or none; forms of other weights that an earlier export left
    in the folder go. Raises SettingsError for an unknown format,
    UnsupportedError if the network can't be written so or an extra is missing, VerifyError if a form computes
    something else than the model, RunError if the disk refuses.
    """
    for name in formats:
        if name not in TOLERANCE:
            raise SettingsError(f"There is no export format {name!r}.{did_you_mean(name, TOLERANCE)}")
    if "onnx" in formats and (missing := [n for n in _EXTRA if importlib.util.find_spec(n) is None]):
        raise UnsupportedError(f'Writing ONNX needs {", ".join(missing)}: pip install "nascli[export]"')
    model = copy.deepcopy(model).cpu().eval()
    probes = [_random_like(example, 2, seed=0), _random_like(example, 5, seed=1)]
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=out) as name:
            folder = Path(name)
            _write(model, probes, folder, description, formats)
            _remove_strangers(out, folder / "model.safetensors")
            return [file.replace(out / file.name) for file in sorted(folder.iterdir()) if file.is_file()]


def _write(
    model: nn.Module, probes: Sequence[Inputs], folder: Path, description: Mapping[str, Any], formats: Sequence[str]
) -> None:
    facts: dict[str, Any] = {
        **description,
        "inputs": [{"shape": [None, *t.shape[1:]], "type": str(t.dtype).removeprefix("torch.")} for t in probes[0]],
        "outputs": [{"shape": [None, *t.shape[1:]]} for t in _outputs(_run(model, probes[0]))],
    }
    plain: Standalone | None = None
    try:
        plain = standalone(model, probes[0], title=str(description.get("arch", type(model).__name__)))
    except UnsupportedError:
        if "torch" in formats:
            raise
    tensors = model.state_dict() if plain is None else plain.tensors
    facts |= {} if plain is None else {"layers": list(plain.layers)}
    # The source reads the weights from the disk, so they must lie there before it is compared.
    write_tensors(folder / "model.safetensors", tensors, facts)
    differences = {}
    for name in dict.fromkeys(formats):
        if name == "torch" and plain is not None:
            runner = _torch(plain, folder)
        else:
            runner = {"onnx": _onnx, "pt2": _pt2}[name](model, probes[0], folder)
        differences[name] = _compare(name, model, runner, probes)
    write_tensors(folder / "model.safetensors", tensors, {**facts, "largest_difference": differences})


def _remove_strangers(out: Path, weights: Path) -> None:
    """Take away the forms of another network, which would lie beside weights that they do not have."""
    old = out / weights.name
    if old.exists() and old.read_bytes() != weights.read_bytes():
        for name in ("model.py", "model.onnx", "model.onnx.data", "model.pt2"):
            (out / name).unlink(missing_ok=True)


def _torch(plain: Standalone, folder: Path) -> Runner:
    (folder / "model.py").write_text(plain.source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("_exported", folder / "model.py")
    if spec is None or spec.loader is None:
        raise UnsupportedError(f"{folder / 'model.py'} can't be imported.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.load()
    return lambda inputs: _outputs(_run(network, inputs))


def _onnx(model: nn.Module, example: Inputs, folder: Path) -> Runner:
    import onnxruntime

    size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    with _quiet("ONNX"):
        torch.onnx.export(
            model,
            example,
            folder / "model.onnx",
            dynamo=True,
            input_names=_names("input", example),
            output_names=_names("output", _outputs(_run(model, example))),
            dynamic_shapes=_dynamic(example),
            external_data=size > INLINE_BYTES,
            verbose=False,
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    names = [row.name for row in session.get_inputs()]

    def run(inputs: Inputs) -> Outputs:
        found = session.run(None, {n: t.numpy() for n, t in zip(names, inputs, strict=True)})
        return [torch.from_numpy(array) for array in found]

    return run


def _pt2(model: nn.Module, example: Inputs, folder: Path) -> Runner:
    with _quiet("a torch.export program"):
        program = torch.export.export(model, example, dynamic_shapes=_dynamic(example))
        torch.export.save(program, folder / "model.pt2")
    network = program.module()
    return lambda inputs: _outputs(_run(network, inputs))


def _dynamic(example: Inputs) -> tuple[dict[int, Any], ...]:
    batch = torch.export.Dim("batch")
    return tuple({0: batch} for _ in example)


@contextmanager
def _quiet(what: str) -> Iterator[None]:
    """Keep exporters from talking, and turn their refusals into a sentence."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except (torch.onnx.OnnxExporterError, RuntimeError, ValueError, TypeError, AssertionError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UnsupportedError(f"The network can't be written as {what}: {first[:200].rstrip('.')}.") from None
    finally:
        logging.disable(before)


def _compare(name: str, model: nn.Module, runner: Runner, probes: Sequence[Inputs]) -> float:
    """The largest absolute difference between the form's outputs and the model's; raises VerifyError if too large."""
    largest = 0.0
    for inputs in probes:
        for found, expected in zip(runner(inputs), _outputs(_run(model, inputs)), strict=True):
            if found.shape != expected.shape:
                raise VerifyError(
                    f"The {name} form gives outputs {list(found.shape)} instead of {list(expected.shape)}."
                )
            if not expected.numel():
                continue
            difference = float((found.double() - expected.double()).abs().max())
            if not difference <= TOLERANCE[name] * max(1.0, float(expected.abs().max())):
                raise VerifyError(
                    f"The {name} form of the network differs by {difference:.3g} in its outputs; nothing was written."
                )
            largest = max(largest, difference)
    return largest


def _run(network: Callable[..., Any], inputs: Inputs) -> Any:
    with torch.no_grad():
        return network(*inputs)


def _outputs(found: Any) -> Outputs:
    if isinstance(found, Tensor):
        return [found]
    if isinstance(found, tuple | list) and all(isinstance(t, Tensor) for t in found):
        return list(found)
    raise UnsupportedError(
        f"The network returns a {type(found).__name__}; only tensors, or tuples of them, can be exported."
    )


def _random_like(example: Inputs, count: int, *, seed: int) -> Inputs:
    """Inputs for `count` examples of the same shapes and types; whole numbers stay within the example's range."""
    rng = torch.Generator().manual_seed(seed)
    made = []
    for tensor in example:
        shape = (count, *tensor.shape[1:])
        if tensor.is_floating_point():
            made.append(torch.randn(shape, generator=rng).to(tensor.dtype))
        else:
            low, high = int(tensor.min()), int(tensor.max())
            made.append(torch.randint(low, high + 1, shape, generator=rng).to(tensor.dtype))
    return tuple(made)


def _names(prefix: str, tensors: Sequence[Tensor]) -> list[str]:
    return [prefix] if len(tensors) == 1 else [f"{prefix}{i}" for i in range(len(tensors))]
