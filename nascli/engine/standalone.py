"""A network as Python source that needs PyTorch alone: its layers as they are constructed, its forward pass as traced.

Tracing is torch.fx's (Reed et al. 2022, arXiv:2112.08429). Layers of torch.nn stay layers and keep their names, so the
source loads the network's own state dict; everything else becomes the operations that it performs.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata

from nascli.errors import UnsupportedError

_TEMPLATE = Template('''\
"""$title

Needs PyTorch alone: `load()` gives the network in evaluation mode, with the weights of the model.safetensors beside it.
"""

import json
import math
from pathlib import Path

$imports


class Network(nn.Module):
    """The layers and the forward pass. Inputs are batches: $inputs."""

    def __init__(self):
        super().__init__()
        _fill(self, $layers)

$forward


def load(weights=Path(__file__).with_name("model.safetensors")):
    """The network in evaluation mode on the CPU."""
    with torch.device("meta"):
        network = Network()
    network.load_state_dict(_tensors(Path(weights)), strict=True, assign=True)
    return network.eval()


def _fill(module, children):
    """The module with layers, parameters and buffers by name; a dict is a module that only holds others."""
    for name, child in children.items():
        if isinstance(child, nn.Parameter):
            module.register_parameter(name, child)
        elif isinstance(child, torch.Tensor):
            module.register_buffer(name, child)
        else:
            module.add_module(name, _fill(nn.Module(), child) if isinstance(child, dict) else child)
    return module


def _tensors(path):
    """The tensors of a safetensors file: the length of a JSON header, the header, the numbers."""
    raw = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    header.pop("__metadata__", None)
    types = $types
    tensors = {}
    for name, row in header.items():
        dtype, shape, begin = types[row["dtype"]], row["shape"], start + row["data_offsets"][0]
        count = math.prod(shape)
        flat = torch.frombuffer(raw, dtype=dtype, count=count, offset=begin) if count else torch.empty(0, dtype=dtype)
        tensors[name] = flat.reshape(shape)
    return tensors
''')

_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The names that the safetensors format gives to types of numbers."""


@dataclass(frozen=True)
class Standalone:
    """A traced network: source text, the tensors it loads, and a table of its operations."""

    source: str
    tensors: Mapping[str, Tensor]
    layers: Sequence[Mapping[str, Any]]
    """One row an operation, in their order: its name, what it does, whose results it reads, its result's shape."""


def standalone(model: nn.Module, example: tuple[Tensor, ...], *, title: str) -> Standalone:
    """The network as source; `model` is in evaluation mode, and what it does only in training is left out.

    Raises UnsupportedError, naming ONNX, where the pass depends on its inputs' values or a layer can't be written down.
    """
    try:
        traced = fx.symbolic_trace(model)
        for node in traced.graph.nodes:
            node.type = None  # an annotation would be written out, but not what it names
        ShapeProp(traced).propagate(*example)
    except (fx.proxy.TraceError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UnsupportedError(f"{_name(model)} can't be traced ({reason[:160].rstrip('.')}); {_INSTEAD}") from None
    tensors = traced.state_dict()
    _refuse_other_types(tensors)
    code = traced.graph.python_code("self")
    used = {k: v for k, v in _TYPES.items() if any(t.dtype is v for t in tensors.values())}
    source = _TEMPLATE.substitute(
        title=title.replace("\\", "/").replace('"""', "'''"),
        imports=_imports({n: v for n, v in code.globals.items() if re.search(rf"\b{n}\b", code.src)}, model),
        inputs=", ".join(f"{_type(t)}{[*('n', *t.shape[1:])]}".replace("'", "") for t in example),
        layers=_nested(_members(traced), depth=2),
        forward=_forward(code.src),
        types="{" + ", ".join(f'"{k}": {v}' for k, v in used.items()) + "}",
    )
    return Standalone(source, tensors, list(_rows(traced)))


_INSTEAD = "export it with --to onnx instead."


def _members(traced: fx.GraphModule) -> dict[str, str]:
    """Source of every layer, parameter and buffer that the forward pass reads, by dotted name."""
    found: dict[str, str] = {}
    for node in traced.graph.nodes:
        if node.op == "call_module":
            found[node.target] = _construction(traced.get_submodule(node.target), node.target)
        elif node.op == "get_attr":
            tensor = _attribute(traced, node.target)
            empty = f"torch.empty({tuple(tensor.shape)}, dtype={tensor.dtype})"
            trained = tensor.is_floating_point()
            kept = f"nn.Parameter({empty}{'' if trained else ', requires_grad=False'})"
            found[node.target] = kept if isinstance(tensor, nn.Parameter) else empty
    return found


def _construction(layer: nn.Module, name: str) -> str:
    """The call that makes a layer: its constructor's arguments are its attributes of the same names."""
    kind = type(layer)
    if getattr(nn, kind.__name__, None) is not kind:
        raise UnsupportedError(f"The layer {name!r} is a {_name(layer)}, which torch.nn does not have; {_INSTEAD}")
    parts = []
    for parameter in inspect.signature(kind.__init__).parameters.values():
        if parameter.name in ("self", "device", "dtype") or not hasattr(layer, parameter.name):
            continue
        value = getattr(layer, parameter.name)
        if isinstance(parameter.default, bool) and not isinstance(value, bool):
            value = value is not None  # bias=True makes the attribute a parameter, bias=False makes it None
        if value != parameter.default:
            positional = parameter.default is inspect.Parameter.empty
            parts.append(_literal(value, name) if positional else f"{parameter.name}={_literal(value, name)}")
    return f"nn.{kind.__name__}({', '.join(parts)})"


def _literal(value: Any, layer: str) -> str:
    if isinstance(value, list | tuple):
        inner = ", ".join(_literal(v, layer) for v in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    raise UnsupportedError(f"The layer {layer!r} has the setting {value!r}, which can't be written down; {_INSTEAD}")


def _nested(members: Mapping[str, str], *, depth: int) -> str:
    """The dict literal of dotted names as a tree."""
    lines = []
    for head in dict.fromkeys(name.partition(".")[0] for name in members):
        below = {n.removeprefix(head + "."): v for n, v in members.items() if n.startswith(head + ".")}
        value = members[head] if head in members else _nested(below, depth=depth + 1)
        lines.append("    " * (depth + 1) + f'"{head}": {value},\n')
    return "{\n" + "".join(lines) + "    " * depth + "}" if lines else "{}"


def _forward(code: str) -> str:
    """The generated function as a method; each value is let go (`x = None`) where it is read for the last time."""
    body = code[code.index("def forward") :].rstrip()
    return "\n".join(f"    {line}" if line else "" for line in body.splitlines())


def _imports(names: Mapping[str, Any], model: nn.Module) -> str:
    """The import lines for the names that generated code uses; torch's and the standard library's only."""
    lines = {"import torch", "from torch import nn"}
    for name, value in names.items():
        module, own = getattr(value, "__module__", ""), getattr(value, "__name__", name)
        if inspect.ismodule(value):
            module = value.__name__
            line = f"import {module}" if name == module else f"import {module} as {name}"
        elif isinstance(value, float):
            module, line = "math", f"from math import {name}"
        else:
            line = f"from {module} import {own} as {name}"
        if module.partition(".")[0] not in ("torch", "math", "operator", "_operator", "builtins"):
            raise UnsupportedError(f"{_name(model)} calls {own} of {module}, which is not part of torch; {_INSTEAD}")
        lines.add(line)
    return "\n".join(sorted(lines - {"import math"}))


def _rows(traced: fx.GraphModule) -> Iterator[Mapping[str, Any]]:
    for node in traced.graph.nodes:
        if node.op == "output":
            continue
        row: dict[str, Any] = {"name": node.target if node.op == "call_module" else node.name}
        match node.op:
            case "call_module":
                row["does"] = _construction(traced.get_submodule(node.target), node.target).removeprefix("nn.")
            case "placeholder" | "get_attr":
                row["does"] = {"placeholder": "input", "get_attr": "tensor"}[node.op]
            case _:
                row["does"] = node.target if isinstance(node.target, str) else node.target.__name__
        row["inputs"] = [n.target if n.op == "call_module" else n.name for n in node.all_input_nodes]
        shape = node.meta.get("tensor_meta")
        yield row | ({"shape": list(shape.shape)} if isinstance(shape, TensorMetadata) else {})


def _refuse_other_types(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype not in _TYPES.values():
            raise UnsupportedError(f"The tensor {name!r} is of type {tensor.dtype}, which can't be stored; {_INSTEAD}")


def _attribute(module: nn.Module, path: str) -> Tensor:
    parent, _, name = path.rpartition(".")
    found: Tensor = getattr(module.get_submodule(parent), name)
    return found


def _type(tensor: Tensor) -> str:
    return re.sub(r"^torch\.", "", str(tensor.dtype))


def _name(model: nn.Module) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"
