"""Soft trouble of a fit, in sentences: too few runs or sizes, flat directions, edges, outliers that move the answer."""

from __future__ import annotations

import numpy as np

from ..forms.law import Array
from .newton import EXPONENTS
from .recipes import Bound
from .runs import Runs
from .search import Problem

OUTLIER = 5.0  # residual standard deviations
LOSS_PRECISION = 1e-6  # no loss is known better than this, relatively; keeps noiseless fits out of 0/0
FLAT = 0.5  # standard error, relative to the value, beyond which a number means little
FLOORS = {"E", "floor"}
MOVED_FLOOR, MOVED_EXPONENT = 0.01, 0.05  # relative moves worth saying
WHAT = {"N": "model sizes", "D": "token counts", "U": "amounts of unique data", "x": "values of x"}


def statuses_of(
    problem: Problem, runs: Runs, theta: Array, draws: Array, residuals: Array, sd: float
) -> tuple[str, ...]:
    """Everything that makes a fit less than it seems."""
    bound = problem.bound
    return (
        *runs.notes,
        *_design(bound, runs),
        *_flat(bound, theta, sd),
        *_draws(bound, draws, problem.z),
        *_outliers(problem, runs, theta, residuals, sd),
    )


def _design(bound: Bound, runs: Runs) -> list[str]:
    free, said = len(bound.free), []
    if len(runs) < 2 * free:
        said.append(f"too few points: {len(runs)} runs for {free} parameters; the intervals are rough")
    needed = 3 if FLOORS & set(bound.free) else 2  # values that tell a coefficient, an exponent and a floor
    for name in bound.recipe.variables:
        if name in ("N", "D") and _has_own_exponent(bound, name):
            distinct = np.unique(np.round(np.log(runs.column(name)), 3)).size
            if distinct < needed:
                what = WHAT[name]
                said.append(f"only {distinct} distinct {what}: the exponent of {name} is not identified; add others")
    if set(bound.recipe.variables) >= {"N", "D"}:
        budgets = np.unique(np.round(np.log(runs.N * runs.D), 1)).size
        if budgets == 2:
            said.append("too few budgets: two cannot show whether the law holds; add a third")
    return said


def _has_own_exponent(bound: Bound, column: str) -> bool:
    """Whether a column has a fitted exponent that no other column shares."""
    scales = [scale for scale in bound.recipe.scales.values() if scale is not None]
    return any(
        own == column and exponent in bound.free and {c for c, e in scales if e == exponent} == {column}
        for own, exponent in scales
    )


def _flat(bound: Bound, theta: Array, sd: float) -> list[str]:
    """Name the parameters whose linearised standard error is too large for the number to mean anything."""
    free = [i for i in range(theta.size) if i not in bound.held]
    gradient = bound.model.gradient(theta[None])[0][:, free]
    norms = np.maximum(np.linalg.norm(gradient, axis=0), 1e-100)
    _, singular, directions = np.linalg.svd(gradient / norms, full_matrices=False)
    spread = directions / np.maximum(singular, 1e-15)[:, None] / norms
    errors = max(sd, LOSS_PRECISION) * np.sqrt((spread**2).sum(axis=0))
    said = []
    for place, error in zip(free, errors, strict=True):
        name = bound.model.names[place]
        exponent = place in bound.model.exponents
        if not exponent and name not in FLOORS and name not in bound.recipe.logs:
            continue  # coefficients of power terms are as uncertain as their exponents, many times over
        relative = error / theta[place] if exponent else error
        edge = exponent and not EXPONENTS[0] < theta[place] < EXPONENTS[1]
        if edge or relative > FLAT:
            error_size = f"{relative:.0%} of its value" if relative < 2 else "more than twice its value"
            why = "it ends at the edge of its range" if edge else f"its standard error is {error_size}"
            said.append(f"{bound.called(name)} is not identified: {why}; {_remedy(bound, name)}")
    return said


def _remedy(bound: Bound, name: str) -> str:
    column = next((s[0] for s in bound.recipe.scales.values() if s is not None and s[1] == name), None)
    if column in ("N", "D"):
        return f"spread the {WHAT[column]} wider"
    return "add runs of larger budgets" if name in FLOORS else "read its profile, not its value"


def _draws(bound: Bound, draws: Array, z: Array) -> list[str]:
    if not len(draws):
        return []
    shares = {}
    for place, name in enumerate(bound.model.names):
        if place in bound.held:
            continue
        column = draws[:, place]
        if place in bound.model.exponents:
            shares[f"{bound.called(name)} at the edge"] = np.mean((column <= EXPONENTS[0]) | (column >= EXPONENTS[1]))
        elif name in FLOORS:
            shares[f"{name} at zero"] = np.mean(column < np.log(1e-3) + z.min())
    return [
        f"{share:.0%} of the replicates put {what}: this direction is flat, read its interval, not its value"
        for what, share in shares.items()
        if share > 0.05
    ]


def _outliers(problem: Problem, runs: Runs, theta: Array, residuals: Array, sd: float) -> list[str]:
    """Say which runs lie far from the law, and how far the answer moves without them."""
    bound = problem.bound
    far = np.abs(residuals) > max(OUTLIER * sd, 10 * LOSS_PRECISION)
    if not far.any() or residuals.size - far.sum() <= len(bound.free):
        return []
    without = problem.without(far).minimum_from(theta)
    before, after = (bound.natural(t[None])[0] for t in (theta, without))
    exponents = {bound.called(bound.model.names[place]) for place in bound.model.exponents}
    changes = [
        f"{name} from {old:.4g} to {new:.4g}"
        for name, old, new in zip(bound.form.parameters(), before, after, strict=True)
        if name in exponents | FLOORS and abs(new / old - 1) > (MOVED_FLOOR if name in FLOORS else MOVED_EXPONENT)
    ]
    effect = f"leaving them out moves {', '.join(changes)}" if changes else "leaving them out hardly moves the answer"
    return [f"outliers: {far.sum()} of {far.size} runs lie over {OUTLIER:g} sd away ({runs.named(far)}); {effect}"]
