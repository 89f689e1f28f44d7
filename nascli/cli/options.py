"""The flags that commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Space = Annotated[str | None, typer.Option("--space", help="Search space, by name or package.module:Space.")]
Preset = Annotated[
    str | None, typer.Option("--preset", help="Sizes of the space; by default chosen by the image size.")
]
Data = Annotated[str | None, typer.Option("--data", help="Data set, by name or package.module:factory.")]
DataPath = Annotated[
    str | None, typer.Option("--data-path", help="Folder or file of the data set; default $NASCLI_DATA.")
]
Supernet = Annotated[
    str | None, typer.Option("--supernet", help="Trained supernet to inherit weights from: a run or .safetensors.")
]
Objectives = Annotated[
    list[str] | None,
    typer.Option("--objective", "-O", help="NAME, NAME:min|max, or with a limit: 'latency_ms<=5'. Repeat."),
]
Evaluations = Annotated[
    int | None, typer.Option("--evaluations", "-n", min=1, help="Stop after so many measured networks.")
]
TimeLimit = Annotated[str | None, typer.Option("--time-limit", help="Stop after so long: 90s, 30m, 1h30m.")]
Latency = Annotated[str | None, typer.Option("--latency", help="Latency model: measured, roofline or table.")]
Workers = Annotated[
    int, typer.Option("--workers", min=1, help="Measure so many networks at once, each in a process with one thread.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of everything random (default 0).")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda:0 (default auto).")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Run directory; an existing run is continued.")]
Config = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", help="TOML settings; later files and flags lie over earlier ones."),
]
Set = Annotated[list[str] | None, typer.Option("--set", help="Any setting: strategy.population=20. Repeat.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, measure two networks, write nothing.")]
Verbose = Annotated[int, typer.Option("--verbose", "-v", count=True, help="More of the log on stderr; repeat for all.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
