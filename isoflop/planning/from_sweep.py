"""From a sweep's laws to the plan of its flagship: which model, how many tokens, and the loss to expect.

Two methods read the same sweep: the minima of the IsoFLOP curves, as Llama 3 was sized, and the surface L(N, D).
They can disagree about the optimum and about the loss, and neither doubts its own form. So both the size and the loss
are read off a pool of their draws, half from each: where they disagree, the interval holds both. (Weighing the methods
by their precision was tried and dropped: a form that does not hold can be very sure. docs/lab.md.) Constraints,
inference demand, hardware and cost are the business of :mod:`isoflop.planning.planner`, which asks the same pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoflop.laws import Fit, IsoFLOPAnalysis, LossSurface
from isoflop.planning.ladder import shape_for, shape_of, smallest, widths
from isoflop.planning.shape import Convention, Shape, human

Draws = NDArray[np.float64]
POOLED = 2000


@dataclass(frozen=True)
class Reading:
    """What one method says about a budget: its optimum, and the loss of the planned model, with 95% intervals."""

    method: str
    N: float
    D: float
    N_interval: tuple[float, float]
    loss: float
    interval: tuple[float, float]

    def __str__(self) -> str:
        low, high = map(human, self.N_interval)
        losses = f"loss {self.loss:.4f} ({self.interval[0]:.4f} to {self.interval[1]:.4f})"
        return f"{self.method} alone: N* {human(self.N)} ({low} to {high}), {losses}"


@dataclass(frozen=True)
class SweepPlan:
    """A model, its tokens and its predicted validation loss (nats per token) with a 95% prediction interval."""

    budget: float
    shape: Shape
    tokens: float
    loss: float
    interval: tuple[float, float]
    readings: tuple[Reading, ...]
    conventions: Mapping[Convention, dict[str, float]]
    hinges: str

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values, for ``plan.json``."""
        return {
            "budget": self.budget,
            "shape": self.shape.to_json(),
            "N_matmul": self.shape.matmul,
            "tokens": self.tokens,
            "tokens_per_parameter": self.tokens / self.shape.matmul,
            "predicted_loss": self.loss,
            "interval_95": list(self.interval),
            "readings": [vars(reading) for reading in self.readings],
            "conventions": dict(self.conventions),
            "hinges": self.hinges,
        }


def plan_from_sweep(
    budget: float,
    surfaces: Mapping[Convention, Fit[LossSurface]],
    isoflop: IsoFLOPAnalysis | None,
    vocab: int,
    context: int = 256,
    *,
    seed: int = 0,
) -> SweepPlan:
    """Plan a model for ``budget`` FLOPs (6·N·D, N = ``matmul``) from laws fitted in the same conventions.

    An optimum below the ladder's smallest model becomes that model. Raises ValueError when the laws have no optimum.
    """
    surface = surfaces["matmul"]
    N_draws = optimum_draws(surface, isoflop, budget)
    size = max(float(np.median(pool(N_draws))), smallest(vocab, context=context).matmul)
    shape = shape_for(size, vocab, context=context)
    tokens = budget / (6 * shape.matmul)
    draws = {"surface": surface.draw_losses(shape.matmul, tokens, seed=seed)}
    if "IsoFLOP" in N_draws and isoflop is not None:
        draws["IsoFLOP"] = isoflop.draw_losses(budget, seed)
    losses = answering(draws)
    readings = tuple(reading(name, N_draws[name], losses[name], budget) for name in losses)
    pooled = pool(losses)
    low, high = np.quantile(pooled, [0.025, 0.975])
    conventions = {name: best_on_ladder(budget, fit, name, vocab, context) for name, fit in surfaces.items()}
    return SweepPlan(
        budget=budget,
        shape=shape,
        tokens=tokens,
        loss=float(np.median(pooled)),
        interval=(float(low), float(high)),
        readings=readings,
        conventions=conventions,
        hinges=hinges_on(surface, conventions),
    )


def optimum_draws(surface: Fit[LossSurface], isoflop: IsoFLOPAnalysis | None, budget: float) -> dict[str, Draws]:
    """Each method's draws of N* at a budget."""
    draws = {"surface": surface.draw_optimum(budget)[0]}
    if isoflop is not None:
        draws["IsoFLOP"] = isoflop.draw_params(budget)
    return answering(draws)


def reading(method: str, N: Draws, losses: Draws, budget: float) -> Reading:
    """Summarise one method's draws."""
    low, high = np.quantile(N, [0.025, 0.975])
    least, most = np.quantile(losses, [0.025, 0.975])
    middle = float(np.median(N))
    return Reading(
        method,
        middle,
        budget / 6 / middle,
        (float(low), float(high)),
        float(np.median(losses)),
        (float(least), float(most)),
    )


def answering(draws: Mapping[str, Draws]) -> dict[str, Draws]:
    """The methods whose draws have an answer at least half of the time, without those that have none.

    Raises ValueError when no method does.
    """
    finite = {name: values[np.isfinite(values)] for name, values in draws.items()}
    found = {name: values for name, values in finite.items() if 2 * len(values) >= len(draws[name]) > 0}
    if not found:
        raise ValueError("neither the surface nor the IsoFLOP minima have an optimum; widen the grid, or repeat runs")
    return found


def pool(draws: Mapping[str, Draws]) -> Draws:
    """One sample from several methods' draws, the same number from each."""
    levels = (np.arange(POOLED) + 0.5) / POOLED
    return np.concatenate([np.quantile(values, levels) for values in draws.values()])


def best_on_ladder(
    budget: float, fit: Fit[LossSurface], convention: Convention, vocab: int, context: int
) -> dict[str, float]:
    """The ladder's best model for a budget under a surface in one convention of N; the cost is always true 6·N·D."""
    members = [shape_of(width, layers, vocab, context=context) for width in widths() for layers in range(2, 129)]
    members = [s for s in members if 8 < s.width / s.layers < 256]
    N = np.array([s.count(convention) for s in members], float)
    D = budget / 6 / np.array([s.matmul for s in members], float)
    losses = np.asarray(fit.law.loss(N, D))
    best = int(np.argmin(losses))
    return {"N_matmul": float(members[best].matmul), "tokens": float(D[best]), "loss": float(losses[best])}


def hinges_on(surface: Fit[LossSurface], conventions: Mapping[Convention, Mapping[str, float]]) -> str:
    """A sentence: does the plan hinge on whether the head's parameters are counted in N?"""
    ours, theirs = conventions["matmul"], conventions["body"]
    ratio = theirs["N_matmul"] / ours["N_matmul"]
    price = float(surface.law.loss(theirs["N_matmul"], theirs["tokens"])) - ours["loss"]
    verdict = "does not hinge" if price < 0.01 * ours["loss"] else "hinges"
    return (
        f"the plan {verdict} on counting the head: with it N* is {human(ours['N_matmul'])}, without it the best model "
        f"has {human(theirs['N_matmul'])} ({ratio:.2f}×), which the first law prices at {price:+.4f} nats; "
        f"the two laws expect {ours['loss']:.3f} and {theirs['loss']:.3f}"
    )
