"""Watching a search for the two known signs of collapse: skip connections take over, and the validation loss becomes
sharp in the architecture weights.

The dominant eigenvalue of the Hessian rises when a network found will do badly on its own; the search then stops and
goes back a few epochs (RobustDARTS: Zela et al. 2020, arXiv:1909.09656, section 5). Many skip connections are the other
sign (DARTS+: Liang et al. 2019, arXiv:1909.06035).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nascli.strategies.gradient import relaxation
from nascli.strategies.gradient.mixture import Mixture

log = logging.getLogger(__name__)

EarlyStop = Literal["never", "eigenvalue", "skips"]
Upper = Callable[[Sequence[Tensor]], Tensor]
"""Architecture weights -> validation loss []."""
WINDOW = 5
"""Epochs over which eigenvalues are averaged, and over which their mean may not grow too much."""
GROWTH = 0.75
"""The mean of the last epochs times this may not exceed the mean before them."""
SKIPPED = 0.5
"""The share of choices led by a skip connection at which it is said to dominate."""


class Watch:
    """What is seen of a search, epoch by epoch."""

    def __init__(self, early_stop: EarlyStop) -> None:
        self._early_stop: EarlyStop = early_stop
        self.stopped = False
        self._eigenvalues: list[float] = []
        self._before: list[list[Tensor]] = []
        """All architecture weights after the last epochs, oldest first."""
        self._warned = False

    def told(self, mixture: Mixture) -> dict[str, float]:
        """Mean relative entropy of the open choices, share of choices that a skip connection leads, decisions."""
        weights = mixture.settled(mixture.weights())
        still = [mixture.rows.row(n) for n in mixture.undecided]
        entropies = relaxation.entropy(weights, mixture.valid)[still]
        told = {"entropy": entropies.mean().item() if still else 0.0, "decided": float(len(mixture.decided))}
        if mixture.rows.skips:
            told["skips"] = skip_share(mixture, weights)
        if self._eigenvalues:
            told["eigenvalue"] = self._eigenvalues[-1]
        return told

    def epoch(self, mixture: Mixture, batch_loss: Callable[[], Upper]) -> None:
        """Look at the search after an epoch; if it is to stop, its weights go back to where they were.

        `batch_loss` gives the validation loss on one batch.
        """
        skipped = skip_share(mixture, mixture.settled(mixture.weights())) if mixture.rows.skips else 0.0
        if skipped > SKIPPED and not self._warned and mixture.undecided:
            self._warned = True
            log.warning(
                "Skip connections lead %.0f %% of the choices: the search may be collapsing. Try --strategy darts-pt, "
                "strategy.beta_decay=50, or strategy.early_stop='eigenvalue'.",
                100 * skipped,
            )
        if self._early_stop == "skips":
            self.stopped = skipped > SKIPPED
        if self._early_stop == "eigenvalue":
            self._eigenvalues.append(dominant_eigenvalue(batch_loss(), mixture))
            self.stopped = sharpening(self._eigenvalues)
        if self.stopped and self._before:
            with torch.no_grad():
                for now, before in zip(mixture.alpha, self._before[0], strict=True):
                    now.copy_(before)
            log.warning("The search stopped early (%s); its weights are those of up to %d epochs before.",
                        self._early_stop, len(self._before))  # fmt: skip
        self._before = [*self._before[-(WINDOW - 1) :], [a.detach().clone() for a in mixture.alpha]]

    def state(self) -> dict[str, Any]:
        """All of it."""
        return {
            "stopped": self.stopped,
            "eigenvalues": list(self._eigenvalues),
            "before": list(self._before),
            "warned": self._warned,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.stopped, self._warned = state["stopped"], state["warned"]
        self._eigenvalues, self._before = list(state["eigenvalues"]), list(state["before"])


def skip_share(mixture: Mixture, weights: Tensor) -> float:
    """The share of the choices with a skip connection in which it has the largest weight, decided ones included.

    Where others weigh as much, it does not lead.
    """
    skips = {n: o for n, o in mixture.rows.skips.items() if n not in mixture.dropped}
    led = []
    for name, option in skips.items():
        row = weights[mixture.rows.row(name)].tolist()
        own = row.pop(option)
        led.append(own > max(row, default=0.0))
    return sum(led) / len(led) if led else 0.0


def sharpening(eigenvalues: list[float]) -> bool:
    """Whether the mean of the last WINDOW eigenvalues has grown beyond what it was as many epochs before."""
    if len(eigenvalues) < 2 * WINDOW:
        return False
    now, before = np.mean(eigenvalues[-WINDOW:]), np.mean(eigenvalues[-2 * WINDOW : -WINDOW])
    return bool(now > 0 and before < GROWTH * now)


def dominant_eigenvalue(loss: Upper, mixture: Mixture) -> float:
    """The largest eigenvalue of the Hessian of a loss of the architecture weights, in the open rows' logits.

    By Lanczos' method (scipy) on Hessian-vector products: the Hessian itself is never made.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    rows = [mixture.rows.row(n) for n in mixture.undecided]
    where = torch.zeros_like(mixture.valid)
    where[rows] = mixture.valid[rows]
    size = int(where.sum())
    if not size:
        return 0.0
    logits = mixture.logits.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss([logits, *mixture.alpha[1:]]), logits, create_graph=True)

    def product(vector: np.ndarray) -> np.ndarray:
        direction = torch.zeros_like(logits)
        direction[where] = torch.from_numpy(np.ascontiguousarray(vector.ravel())).to(logits.dtype)
        (found,) = torch.autograd.grad(gradient, logits, direction, retain_graph=True)
        return np.asarray(found[where].double().numpy())

    if size <= 2:
        hessian = np.stack([product(unit) for unit in np.eye(size)])
        return float(np.linalg.eigvalsh(hessian).max())
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    # Not even numbers: the loss does not change with them, as a softmax forgets what all its logits share.
    start = np.random.default_rng(0).standard_normal(size)
    if not product(start).any():
        return 0.0  # flat, or without curvature; Lanczos' method would have nothing to go on with
    return float(eigsh(operator, k=1, which="LA", v0=start, tol=1e-3, return_eigenvectors=False)[0])
