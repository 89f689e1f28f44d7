"""`nascli train`: a supernet whose sub-networks can be searched, or one network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nascli.cli import console, options
from nascli.cli.carry_out import carry_out, rehearse
from nascli.cli.flags import layered
from nascli.cli.front import chosen, print_front
from nascli.cli.log import be_verbose
from nascli.errors import SettingsError
from nascli.settings import Layers

if TYPE_CHECKING:
    from nascli.engine.plan import Prepared
    from nascli.engine.protocol import Trial
    from nascli.engine.writer import Writer

DEFAULTS = {"strategy.name": "single-path", "latency.name": "measured", "objectives": ["accuracy", "macs", "params"]}
Recipe = Annotated[
    str | None, typer.Option("--recipe", help="single-path, sandwich, progressive; plain or cells for one network.")
]
Arch = Annotated[str | None, typer.Option("--arch", help="Train this one network from fresh weights.")]
Model = Annotated[str | None, typer.Option("--model", help="Train your own model: package.module:callable.")]
From = Annotated[Path | None, typer.Option("--from", help="Go on from a member of this run's front.")]
Inherit = Annotated[
    str | None, typer.Option("--supernet", help="Start --arch from the weights of this supernet: a run.")
]
Member = Annotated[int | None, typer.Option("--member", help="Its number; default: the first.")]
Epochs = Annotated[float | None, typer.Option("--epochs", help="Passes over the training images.")]
Limit = Annotated[str | None, typer.Option("--time-limit", help="Train so long, learning rate and all: 90s, 20m.")]


def train(
    space: options.Space = None,
    preset: options.Preset = None,
    data: options.Data = None,
    data_path: options.DataPath = None,
    recipe: Recipe = None,
    arch: Arch = None,
    model: Model = None,
    supernet: Inherit = None,
    from_run: From = None,
    member: Member = None,
    epochs: Epochs = None,
    time_limit: Limit = None,
    seed: options.Seed = None,
    device: options.Device = None,
    out: options.Out = None,
    config: options.Config = None,
    sets: options.Set = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
) -> None:
    """Train a supernet from scratch, or with --arch, --model or --from a single network.

    The run directory holds supernet.safetensors (a supernet) or the network under networks/.
    """
    from nascli import settings

    be_verbose(verbose)
    single = any(given is not None for given in (arch, model, from_run))
    if supernet is not None and arch is None:
        raise SettingsError("--supernet needs --arch, the network that starts from the supernet's weights.")
    flags: dict[str, Any] = {
        "--space space.name": "module" if model else space,
        "--model space.path": model,
        "--preset space.preset": preset,
        "--data data.name": data,
        "--data-path data.path": data_path,
        "--recipe strategy.name": recipe,
        "--arch strategy.arch": arch,
        "--supernet supernet": supernet,
        "--supernet strategy.weights": None if supernet is None else "inherit",
        "--epochs strategy.epochs": epochs,
        "--time-limit strategy.time_limit_s": None if time_limit is None else settings.seconds(time_limit),
        "--seed seed": seed,
        "--device device": device,
    }
    start = _start(from_run, member)
    defaults = DEFAULTS | ({"strategy.name": "plain"} if single else {}) | start
    layers = layered(defaults=defaults, config=config, flags=flags, sets=sets)
    # A recipe of another name has forgotten them, but they are the member's and not the recipe's.
    for key in ("strategy.arch", "strategy.weights"):
        if key in start and key.rpartition(".")[2] not in layers.values["strategy"]:
            layers.put(key, start[key], origin="--from")
    if dry_run:
        console.facts("train", rehearse(_prepared(layers)), as_json=as_json)
    else:
        run_training(layers, out=out, as_json=as_json)


def run_training(layers: Layers, *, out: Path | None, as_json: bool, asked: str = "train") -> None:
    """Carry a training out and print how good its networks are; `asked` is the command that was typed."""
    run = carry_out("train", _prepared(layers), out=out, after=_finish)
    if as_json:
        console.document(asked, {"run": str(run.path), "networks": run.front["members"]})
        return
    print_front(run.front)
    console.note(f"trained in {console.duration(run.header['elapsed_s'])}; all in {run.path}")


def _prepared(layers: Layers) -> Prepared:
    """The training that the settings describe, once it is known that there is such a network."""
    from nascli.engine.plan import prepare

    prepared = prepare(layers, kind="recipe")
    space = prepared.task.space
    if arch := prepared.resolved["strategy"].get("arch"):
        space.parse(arch)
    if space.table.size == 1:
        space.build(space.table.largest)
    return prepared


def _start(from_run: Path | None, member: int | None) -> dict[str, Any]:
    """The settings that a run's member brings along: its space, data, architecture and weights."""
    if from_run is None:
        if member is not None:
            raise SettingsError("--member needs --from RUN, the run whose member is meant.")
        return {}
    from nascli.engine.runs import Run

    run = Run.open(from_run)
    row = chosen(run, member)
    start: dict[str, Any] = {"strategy.arch": row["arch"]}
    start |= {f"space.{k}": v for k, v in run.settings["space"].items()}
    start |= {f"data.{k}": v for k, v in run.settings.get("data", {}).items()}
    start["parent"] = f"{from_run}#{row['n']}"
    if run.has_network(row["n"]):
        start["strategy.weights"] = str(run.network_path(row["n"]).resolve())
    return start


def _finish(prepared: Prepared, run: Writer, front: Sequence[Trial], stop: Callable[[], bool]) -> None:
    from nascli.engine.final import finalise

    state = run.state()
    # Recipes for one network have a setting for which.
    if state is not None and "arch" not in prepared.resolved["strategy"]:
        space = prepared.task.space
        description = {"space": prepared.resolved["space"], "fingerprint": space.table.fingerprint}
        run.save_tensors(run.path / "supernet.safetensors", state["model"], description)
    finalise(front, prepared.task, run, stop=stop)
    run.write_front(front, {k: v for k, v in run.run.front.items() if k != "members"})
