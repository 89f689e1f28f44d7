"""A network at rest: which architecture, what was changed about it, and its tensors if it has its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from nascli import plugins, settings
from search_spaces import Architecture

if TYPE_CHECKING:
    from torch import Tensor, nn

    from search_spaces.space import SearchSpace


class Edit(Protocol):
    """A structural change that needs no data: a frozen, JSON-able dataclass of plugin kind "edit"."""

    @property
    def name(self) -> str:
        """The plugin's name, or its "package.module:attribute"."""
        ...

    def apply(self, model: nn.Module) -> nn.Module:
        """The changed network; `model` may be taken apart."""
        ...


@dataclass(frozen=True)
class Network:
    """An architecture, edits to it in order, and tensors; equal keys mean the same network."""

    arch: Architecture
    edits: tuple[Edit, ...] = ()
    tensors: Mapping[str, Tensor] | None = field(default=None, compare=False, repr=False)
    tag: str = ""
    """Tells apart networks that differ only in their weights ("epoch30")."""

    @cached_property
    def key(self) -> str:
        """The identity in the journal: architecture, a digest of the edits, tag."""
        parts = [str(self.arch)]
        if self.edits:
            text = json.dumps(self.describe()["edits"], sort_keys=True)
            parts.append(hashlib.sha256(text.encode()).hexdigest()[:12])
        return "#".join(parts) + (f"@{self.tag}" if self.tag else "")

    def describe(self) -> dict[str, Any]:
        """Architecture, edits and tag as JSON values; `restore` reads them back."""
        edits = [{"edit": e.name, **asdict(e)} for e in self.edits]  # type: ignore[call-overload]
        return {"arch": str(self.arch), "edits": edits, "tag": self.tag}

    def build(self, space: SearchSpace) -> nn.Module:
        """The module: built by the space, edited, its own tensors loaded if it has any."""
        model = space.build(self.arch)
        for edit in self.edits:
            model = edit.apply(model)
        if self.tensors is not None:
            model.load_state_dict(dict(self.tensors), strict=True)
        return model


def restore(description: Mapping[str, Any], space: SearchSpace, tensors: Mapping[str, Tensor] | None = None) -> Network:
    """The network that `Network.describe` described; raises ArchitectureError or SettingsError."""
    edits = []
    for row in description.get("edits", []):
        values = {k: v for k, v in row.items() if k != "edit"}
        edits.append(settings.build(plugins.load("edit", row["edit"]), values, where=f"edit {row['edit']!r}"))
    return Network(space.table.parse(description["arch"]), tuple(edits), tensors, description.get("tag", ""))
