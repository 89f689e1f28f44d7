"""Proxies, figures of rankings and the best networks, as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nascli.cli import console
from nascli.errors import NascliError


def print_proxies(*, as_json: bool) -> None:
    """Print every proxy with what it says of itself; one that does not load says why."""
    facts = proxies()
    if as_json:
        console.document("score", facts)
    else:
        console.table(list(facts[0]) if facts else [], [[_cell(v) for v in f.values()] for f in facts])


def proxies() -> list[dict[str, Any]]:
    """What every proxy says of itself, one a row."""
    from nascli import plugins

    return [_about(name) for name in plugins.names("proxy")]


def _about(name: str) -> dict[str, Any]:
    from nascli import plugins

    try:
        about = plugins.load("proxy", name).about
    except (NascliError, ImportError, AttributeError) as error:
        return {"proxy": name, "goal": "", "cost": None, "needs": "", "passes": [], "paper": f"broken: {error}"}
    return {
        "proxy": name,
        "goal": about.goal,
        "cost": about.cost,
        "needs": about.needs,
        "passes": list(about.passes),
        "paper": about.paper,
    }


def print_made(made: Any) -> None:
    """Print how the scores rank, where measured values are known, and the best networks; reasons go to stderr."""
    known = made.board.truth
    if known is not None:
        print_figures(made.figures, title=f"held against {known.column} of {known.source}")
    best = made.best()
    if best:
        if known is not None:
            console.text("")
        print_best(best, made.leader)
    for score in made.board.scores:
        for reason, networks in score.failures.items():
            console.note(f"score: {networks:,} of {len(made.board.asked):,} networks have no {score.name}: {reason}")


def print_figures(figures: Sequence[Any], *, title: str) -> None:
    """Print a row a score: correlations with intervals, counts, the quality of the best, and what size explains."""
    k = figures[0].k
    heads = ["score", "rho", "95 %", "tau", "95 %", "networks", "scored", "dead", "failed", "distinct"]
    heads += [f"regret@{k}", f"nDCG@{k}", "rho with params", "rho beyond params"]
    rows = [
        [
            *(f.score, f.rho, _interval(f.rho_interval), f.tau, _interval(f.tau_interval)),
            *(f.networks, f.scored, f.dead, f.failed, f.distinct, f.regret, f.ndcg, f.size, f.partial),
        ]
        for f in figures
    ]
    console.table(heads, rows, title=title)


def print_best(best: Sequence[dict[str, Any]], leader: str) -> None:
    """Print the networks that lead by a score, their other scores, and how they are written."""
    hidden = ("arch", "field", "measured", leader)
    columns = [leader, *(name for name in best[0] if name not in hidden)]
    rows = [[i, *(row[c] for c in columns), row["field"]] for i, row in enumerate(best, 1)]
    console.table(["place", *columns, "network"], rows, title=f"the best by {leader}")


def _interval(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"


def _cell(value: Any) -> Any:
    return " ".join(value) if isinstance(value, list) else value
