"""`nascli compress`: trained networks made smaller, at several levels, each as a file that needs no nascli."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nascli import settings
from nascli.cli import compressed, console, options
from nascli.cli.carry_out import carry_out
from nascli.cli.flags import layered
from nascli.cli.front import check_feasible
from nascli.cli.log import be_verbose
from nascli.errors import NascliError, SettingsError, did_you_mean
from nascli.settings import Layers

if TYPE_CHECKING:
    from nascli.engine.plan import Prepared
    from nascli.engine.protocol import Trial
    from nascli.engine.writer import Writer

DEFAULTS = {"strategy.name": "sweep", "latency.name": "measured"}
MEASURES = {
    "macs": "macs",
    "params": "params",
    "bytes": "size_bytes",
    "latency": "latency_ms",
    "groups": "nonzero",
}
"""What a level may be a share of -> the objective that measures it."""

Source = Annotated[str | None, typer.Argument(metavar="[SOURCE]", help="A checkpoint (a file with weights), or a run.")]
Model = Annotated[str | None, typer.Option("--model", help="What the checkpoint belongs to: package.module:callable.")]
Member = Annotated[
    list[int] | None, typer.Option("--member", help="Of a run: this member of its front. Repeat; default: all.")
]
With = Annotated[
    list[str] | None, typer.Option("--with", help="Compressor, by name. Repeat: one after another. Default: wgsef.")
]
Level = Annotated[
    list[str] | None, typer.Option("--level", help="Shares that are kept, by commas: 0.3,0.5,0.7. Default: 0.5.")
]
Of = Annotated[str | None, typer.Option("--of", help="Shares of what: macs, params, bytes, latency or groups.")]
Epochs = Annotated[float | None, typer.Option("--epochs", help="Passes over the training images for each level.")]
Limit = Annotated[str | None, typer.Option("--time-limit", help="Train so long for each level: 90s, 20m.")]
To = Annotated[
    list[str] | None, typer.Option("--to", help="Export this form, too: onnx, pt2. Repeat; PyTorch always is.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, measure the networks, write nothing.")]


def compress(
    source: Source = None,
    model: Model = None,
    member: Member = None,
    data: options.Data = None,
    data_path: options.DataPath = None,
    compressors: With = None,
    level: Level = None,
    of: Of = None,
    objective: options.Objectives = None,
    epochs: Epochs = None,
    time_limit: Limit = None,
    latency: options.Latency = None,
    to: To = None,
    seed: options.Seed = None,
    device: options.Device = None,
    out: options.Out = None,
    config: options.Config = None,
    sets: options.Set = None,
    dry_run: DryRun = False,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
) -> None:
    """Make trained networks smaller: each at each level, measured before and after, and exported.

    A checkpoint needs its --model; a run brings its space and data along. Decisions are made on the validation split;
    the test split is looked at once, at the end.
    """
    be_verbose(verbose)
    start = _start(source, model, member)
    flags: dict[str, Any] = {
        "--model space.name": "module" if model else None,
        "--model space.path": model,
        "--data data.name": data,
        "--data-path data.path": data_path,
        "--with strategy.compressors": compressors,
        "--level strategy.levels": levels(level),
        "--of strategy.of": of,
        "--objective objectives": objective,
        "--latency latency.name": latency,
        "--to report.to": to,
        "--seed seed": seed,
        "--device device": device,
    }
    layers = layered(defaults=DEFAULTS | start, config=config, flags=flags, sets=sets)
    limit_s = None if time_limit is None else settings.seconds(time_limit)
    complete(layers, {"epochs": ("--epochs", epochs), "time_limit_s": ("--time-limit", limit_s)})
    if dry_run:
        console.facts("compress", _rehearsed(*_prepared(layers)), as_json=as_json)
    else:
        run_compress(layers, out=out, as_json=as_json)


def levels(given: Sequence[str] | None) -> list[str] | None:
    """The levels of a flag that may be repeated and hold several by commas; raises SettingsError if there are none."""
    if given is None:
        return None
    found = [text.strip() for texts in given for text in texts.split(",") if text.strip()]
    if not found and given:
        raise SettingsError("--level is empty; give shares that are kept: --level 0.3,0.5,0.7")
    return found


def complete(layers: Layers, flags: dict[str, tuple[str, Any]]) -> Layers:
    """What nobody gave: objectives that go with the levels, what else is recorded; and flags for all compressors.

    `flags` says for a setting of compressors which flag sets it, and to what.
    """
    strategy = layers.values["strategy"]
    measure = MEASURES.get(str(strategy.get("of", "macs")), "macs")
    for key, value in (("objectives", ["accuracy", measure]), ("record", list(dict.fromkeys(MEASURES.values())))):
        if not layers.values.get(key):
            layers.put(key, value, origin="default")
    named = strategy.get("compressors", ["wgsef"])
    for name in named if isinstance(named, list | tuple) else ():
        for setting, (flag, value) in flags.items():
            key = f"compressor.{name}.{setting}"
            if value is not None and not layers.origins.get(key, "").startswith("--set"):
                layers.put(key, value, origin=flag)
    return layers


def run_compress(layers: Layers, *, out: Path | None, as_json: bool, asked: str = "compress") -> None:
    """Carry a compression out and print what came of it; `asked` is the command that was typed.

    Raises InfeasibleError if nothing met the limits.
    """
    prepared, to = _prepared(layers)
    networks = len(prepared.strategy.prefixes()) * (1 + len(prepared.strategy.levels))

    def finish(prepared: Prepared, run: Writer, front: Sequence[Trial], stop: Callable[[], bool]) -> None:
        compressed.finish(prepared, run, front, to=to, stop=stop)

    run = carry_out("compress", prepared, out=out, after=finish, total=networks)
    check_feasible(run, prepared.task)
    rows = compressed.rows(prepared, run)
    compressed.warn(rows)
    if as_json:
        console.document(asked, {"run": str(run.path), "networks": rows})
        return
    compressed.print_rows(rows)
    console.note(f"{len(rows)} networks; files of those on the front in {run.path / 'export'}, all else in {run.path}")


def _prepared(layers: Layers) -> tuple[Prepared, list[str]]:
    """The sweep that the settings describe and the export formats, once it is known that both can be carried out."""
    from nascli.engine.compressing import made
    from nascli.engine.export import TOLERANCE
    from nascli.engine.plan import prepare

    if "name" not in layers.values.get("space", {}):
        raise SettingsError("A checkpoint needs --model package.module:callable, which makes the network it is of.")
    to = layers.values.get("report", {}).get("to", [])
    if not isinstance(to, list) or set(layers.values.get("report", {})) - {"to"}:
        raise SettingsError("report: nascli compress has one setting there, to: a list of export formats.")
    for name in to:
        if name not in TOLERANCE:
            raise SettingsError(f"There is no export format {name!r}.{did_you_mean(str(name), TOLERANCE)}")
    prepared = prepare(layers, kind="sweep")
    task, strategy = prepared.task, prepared.strategy
    compressors = {}
    for name in strategy.compressors:
        compressors[name] = settings.plain(made(name, task, origins=layers.under(f"compressor.{name}")))
    learnt = [o.name for o in task.objectives if o.name in ("accuracy", "loss")]
    if learnt and task.data is None:
        raise SettingsError(
            f"{learnt[0]} is measured on data: give --data NAME, or other objectives: -O macs -O params."
        )
    strategy.sources(task)
    return replace(prepared, resolved={**prepared.resolved, "compressor": compressors}), to


def _start(source: str | None, model: str | None, members: Sequence[int] | None) -> dict[str, Any]:
    """The settings that a checkpoint or run brings along; raises SettingsError for flags that do not go with it."""
    if source is None:
        if members:
            raise SettingsError("--member needs RUN, the run whose member is meant.")
        return {}
    path = Path(source)
    if not path.is_dir():
        if members:
            raise SettingsError(f"--member is for runs, and {source} is a file; leave --member out.")
        return {"strategy.checkpoint": str(path.resolve()), "parent": source}
    if model is not None:
        raise SettingsError(f"--model is for checkpoints, and {source} is a run, which has a space; leave --model out.")
    from nascli import plugins
    from nascli.engine.runs import Run

    run = Run.open(path)
    start: dict[str, Any] = {"strategy.run": str(path.resolve()), "parent": source}
    start |= {f"space.{k}": v for k, v in run.settings["space"].items()}
    start |= {f"data.{k}": v for k, v in run.settings.get("data", {}).items()}
    sweep = plugins.load("sweep", "sweep")
    # Those that there are now: the run may go on, and get another front.
    found = sweep(run=str(path), members=tuple(dict.fromkeys(members or ()))).stored()
    return start | {"strategy.members": list(found)}


def _rehearsed(prepared: Prepared, to: Sequence[str]) -> dict[str, Any]:
    """The facts of a dry run: what would be made, and each network as it is, measured once."""
    from nascli.engine.evaluate import measure

    task, strategy = prepared.task, prepared.strategy
    # Without limits, so that everything is measured.
    task = replace(task, objectives=tuple(replace(o, limit=None) for o in task.objectives))
    dense = {}
    for network in strategy.sources(task):
        trial = measure(network, task)
        if trial.error:
            raise NascliError(f"{trial.network.arch} could not be measured: {trial.error}.")
        dense[trial.key] = dict(trial.values)
    made = len(dense) * len(strategy.levels)
    return {"networks": len(dense), "compressed": made, "dense": dense, "settings": prepared.resolved}
