"""How well do ParZC and plain regressors rank all of NAS-Bench-201 after a few trained networks?

They learn validation accuracies of so many networks drawn at random, and are held against the test accuracies of all
others (CIFAR-10, 200 epochs), as in ParZC's paper (Dong et al. 2025, arXiv:2402.02105); settings are never chosen by
those. The statistics come from a run that recorded "nodes", or from an npz with `arch`, `nodes` [networks, layers, 7],
`layers`, `scores` [networks, scores] and `score_names`.

    NASCLI_DATA=data python benchmarks/parzc.py RUN --sizes 78,156,469,1563 --seeds 5 --out parzc.csv

A row is printed and written as soon as it is there; run it again to go on.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nascli.engine.scores import RECORDED
from predictors import regressors
from predictors.cell_features import cell_features
from predictors.graph_encoder import GraphSizes
from predictors.parzc import Networks, ParZCSettings, TrainingSet, fit, published
from predictors.probe import Cell
from predictors.ranking import kendall_tau, spearman_rho
from predictors.statistics import STATISTICS
from search_spaces.nb201 import Nb201Space

NONE = 1  # the kind of operation that lets nothing through, in the order of Nb201Space's graphs
TRUTHS = ("", "_val", "_all")  # test accuracy, validation accuracy, test accuracy of all the benchmark's networks
COLUMNS = (
    "model",
    "train",
    "seed",
    "tested",
    *(m + t for t in TRUTHS for m in ("kendall", "spearman")),
    "fit_s",
    "say_s",
)


@dataclass(frozen=True)
class Bench:
    """Networks and what they reached [networks]: mean validation accuracy of the seeds, and test accuracy."""

    networks: Networks
    recorded: tuple[str, ...]
    validation: np.ndarray
    test: np.ndarray
    stands_for: np.ndarray
    """Of each network of the benchmark's 15,625, the number of the one here that computes the same, or -1."""
    every_test: np.ndarray

    @cached_property
    def padded(self) -> Networks:
        """With statistics filled up with zeros to the deepest network of all, as published."""
        longest = max(map(len, self.networks.statistics))
        filled = [np.pad(p, ((0, longest - len(p)), (0, 0))) for p in self.networks.statistics]
        return replace(self.networks, statistics=filled)

    @cached_property
    def features(self) -> np.ndarray:
        """What plain regressors read: scores and features of the cell [networks, features]."""
        cells = [cell_features(c.adjacency, c.operations, absent=(NONE,)) for c in self.networks.cells or ()]
        return np.concatenate([self.networks.scores, np.stack(cells)], axis=1)  # type: ignore[list-item]


# -- data --------------------------------------------------------------------------------------------------------------


def read_run(path: Path) -> dict[str, Any]:
    """The arrays of a run that recorded node-wise statistics; networks that could not be scored are left out."""
    lines = (path / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if not row["error"] and "nodes_statistics" in row.get("vectors", {})]
    names = [name for name in rows[0]["values"] if name != "nodes"]
    profiles = [np.array(row["vectors"]["nodes_statistics"]) for row in rows]
    nodes = np.zeros((len(rows), max(map(len, profiles)), len(STATISTICS)))
    for made, profile in zip(nodes, profiles, strict=True):
        made[: len(profile), [STATISTICS.index(s) for s in RECORDED]] = profile
    return {
        "arch": [row["arch"] for row in rows],
        "nodes": nodes,
        "layers": [len(p) for p in profiles],
        "scores": np.array([[row["values"][name] for name in names] for row in rows]),
        "score_names": names,
    }


def read_bench(path: Path, table: Path, also: Path | None) -> Bench:
    """The networks whose statistics are known; published proxies, if given, replace the scores."""
    found: Mapping[str, Any] = read_run(path) if path.is_dir() else np.load(path, allow_pickle=False)
    measured, space = np.load(table, allow_pickle=False), Nb201Space()
    archs = [space.parse(str(text)) for text in found["arch"]]
    names = [str(o) for o in measured["ops"]]
    row_of = {tuple(names[o] for o in code): row for row, code in enumerate(measured["code"])}
    rows = np.array([row_of[arch.options] for arch in archs])
    scores, score_names = np.asarray(found["scores"]), tuple(map(str, found["score_names"]))
    if also is not None:
        score_names, scores, kept = published_scores(also, rows, measured)
        rows, archs = rows[kept], [archs[i] for i in kept]
    else:
        kept = np.arange(len(rows))
    nodes = np.asarray(found["nodes"])
    profiles = [nodes[i, : found["layers"][i]] for i in kept]
    graphs = [space.graph(arch) for arch in archs]
    cells = [Cell(graph.adjacency, graph.operations) for graph in graphs]
    recorded = tuple(s for s, column in zip(STATISTICS, nodes.T, strict=True) if column.any())
    place = {str(arch): i for i, arch in enumerate(archs)}
    every = (space.table.canonical([names[o] for o in code]) for code in measured["code"])
    stands_for = np.array([place.get(str(space.equivalent(arch)), -1) for arch in every])
    validation = np.nanmean(measured["val_acc_200ep_seeds"][:, 0].astype(np.float64), axis=-1)[rows]
    test = measured["test_acc_200ep"][:, 0].astype(np.float64)
    return Bench(Networks(profiles, cells, scores, score_names), recorded, validation, test[rows], stands_for, test)


def published_scores(path: Path, rows: np.ndarray, measured: Any) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """NAS-Bench-Suite-Zero's proxies, parameters and MFLOPs of those rows that it has, and which these are."""
    given = np.load(path, allow_pickle=False)
    place = {int(row): i for i, row in enumerate(given["row"])}
    kept = np.array([i for i, row in enumerate(rows) if int(row) in place])
    proxies = given["cifar10"][[place[int(row)] for row in rows[kept]]]
    costs = [measured[name][rows[kept], 0].astype(np.float64) for name in ("params_M", "mflops")]
    return (*map(str, given["proxies"]), "params", "mflops"), np.column_stack([proxies, *costs]), kept


# -- models ------------------------------------------------------------------------------------------------------------


def ours(bench: Bench) -> ParZCSettings:
    """The default settings, for the statistics that were recorded."""
    return ParZCSettings(statistics=bench.recorded, absent=(NONE,))  # type: ignore[arg-type]


def as_published(bench: Bench) -> ParZCSettings:
    """The authors' mixer with all their choices, but without the graph encoder."""
    return replace(published(), graph=None)


def flawed() -> ParZCSettings:
    """The authors' mixer alone, as small as ours: theirs takes minutes a step of this comparison."""
    return replace(published(), graph=None, mixer=SMALL)


SMALL = replace(ParZCSettings().mixer, mixing="channels")

VARIANTS: Mapping[str, Callable[[Bench], ParZCSettings]] = {
    "parzc": ours,
    "parzc-no-scores": lambda bench: replace(ours(bench), scores="none"),
    "parzc-no-statistics": lambda bench: replace(ours(bench), statistics=(), summaries="none"),
    "parzc-graph": lambda bench: replace(ours(bench), graph=GraphSizes()),
    "parzc-published-mixer": as_published,
    "parzc-published": lambda bench: published(),
    # The authors' choices at our sizes, and with one flaw mended: dropout that ends, magnitudes thrown away, segments
    # that never meet.
    "flawed": lambda bench: flawed(),
    "mended-dropout": lambda bench: replace(flawed(), dropout="throughout"),
    "mended-magnitudes": lambda bench: replace(flawed(), normalisation="log"),
    "mended-mixing": lambda bench: replace(flawed(), mixer=replace(SMALL, mixing="tokens")),
    "mended-all": lambda bench: replace(
        flawed(), dropout="throughout", normalisation="log", mixer=replace(SMALL, mixing="tokens")
    ),
}
PLAIN: Mapping[str, regressors.Kind] = {"extra-trees": "extra_trees", "gp": "gaussian_process", "ridge": "ridge"}


def answer(name: str, bench: Bench, train: np.ndarray, rest: np.ndarray, seed: int) -> tuple[np.ndarray, float, float]:
    """The scores of the rest, and the CPU seconds of fitting and of saying them."""
    labels, started = bench.validation[train], time.process_time()
    if name in PLAIN:
        fitted = regressors.fit(bench.features[train], labels, kind=PLAIN[name], seed=seed)
        between = time.process_time()
        mean, _ = fitted.predict(bench.features[rest])
    else:
        settings = VARIANTS[name](bench)
        networks = bench.padded if settings.alignment == "padded" else bench.networks
        training = TrainingSet(networks[train], labels)
        predictor = fit(training, settings, rng=np.random.default_rng([seed, len(train)]))
        between = time.process_time()
        mean, _ = predictor.predict(networks[rest])
    return mean, between - started, time.process_time() - between


def row(name: str, bench: Bench, size: int, seed: int) -> dict[str, Any]:
    """One training set: drawn by the seed, so that all models learn from the same networks."""
    order = np.random.default_rng(seed).permutation(len(bench.networks))
    train, rest = order[:size], order[size:]
    mean, fit_s, say_s = answer(name, bench, train, rest, seed)
    made: dict[str, Any] = dict(model=name, train=size, seed=seed, tested=len(rest))
    said = np.full(len(bench.networks) + 1, np.nan)  # the last stands for networks that are not here
    said[rest] = mean
    every = said[bench.stands_for]
    truths = ((mean, bench.test[rest]), (mean, bench.validation[rest]), (every, bench.every_test))
    for suffix, (scores, truth) in zip(TRUTHS, truths, strict=True):
        known = ~np.isnan(scores)
        made["kendall" + suffix] = f"{kendall_tau(scores[known], truth[known]):.4f}"
        made["spearman" + suffix] = f"{spearman_rho(scores[known], truth[known]):.4f}"
    return made | {"fit_s": f"{fit_s:.1f}", "say_s": f"{say_s:.1f}"}


def table(rows: Sequence[Mapping[str, Any]], column: str) -> Iterator[str]:
    """Mean and deviation over the seeds, a line a model and a column a size."""
    sizes = sorted({int(r["train"]) for r in rows})
    yield f"{column:24}" + "".join(f"{size:>20}" for size in sizes)
    for name in dict.fromkeys(r["model"] for r in rows):
        line = f"{name:24}"
        for size in sizes:
            found = [float(r[column]) for r in rows if r["model"] == name and int(r["train"]) == size]
            spread = np.std(found, ddof=1) if len(found) > 1 else 0.0
            line += f"{f'{np.mean(found):.4f} +- {spread:.4f} ({len(found)})' if found else '-':>20}"
        yield line


def options() -> argparse.Namespace:
    folder = Path(os.environ.get("NASCLI_DATA", ".")) / "nas"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("statistics", type=Path, help="a run that recorded nodes, or an npz")
    parser.add_argument("--table", type=Path, default=folder / "nasbench201.npz")
    parser.add_argument("--proxies", type=Path, help="published proxies in the place of the recorded scores")
    parser.add_argument("--sizes", default="78,156,469,1563")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--models", default="extra-trees,gp,ridge,parzc,parzc-no-scores,parzc-no-statistics")
    parser.add_argument("--out", type=Path, required=True, help="the CSV; rows that are in it are not made again")
    return parser.parse_args()


def main() -> None:
    asked = options()
    torch.set_num_threads(1)
    models = asked.models.split(",")
    if unknown := set(models) - {*VARIANTS, *PLAIN}:
        raise SystemExit(f"There are no models {sorted(unknown)}; there are {', '.join([*PLAIN, *VARIANTS])}.")
    bench = read_bench(asked.statistics, asked.table, asked.proxies)
    print(f"{len(bench.networks)} networks; statistics: {', '.join(bench.recorded)}")
    print(f"scores: {', '.join(bench.networks.score_names)}")
    asked.out.touch()
    with asked.out.open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    done = {(r["model"], int(r["train"]), int(r["seed"])) for r in rows}
    with asked.out.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if not file.tell():
            writer.writeheader()
        for size in map(int, asked.sizes.split(",")):
            for seed in range(asked.seeds):
                for name in models:
                    if (name, size, seed) not in done:
                        rows.append(row(name, bench, size, seed))
                        writer.writerow(rows[-1])
                        file.flush()
                        print(*rows[-1].values(), flush=True)
    for column in ("kendall", "spearman", "kendall_val", "kendall_all"):
        print("\n" + "\n".join(table(rows, column)))


if __name__ == "__main__":
    main()
