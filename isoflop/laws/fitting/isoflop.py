"""IsoFLOP analysis: the laws that the minima of the budgets' parabolas follow, with error bars.

D*(C) and N*(C) are power laws (ordinary least squares in logarithms); L*(C) is a power law with a floor. This
is approach 2 of Hoffmann et al. 2022 and how Llama 3 was sized (section 3.2.1). Budgets without a usable
minimum are named and left out.

Error bars: with six or so sizes a budget, resampling runs would wreck parabolas, so the grid stays fixed
and residuals are resampled: relative to the loss, freed of their leverage, pooled over budgets, and scaled
in each replicate by how well their few degrees of freedom know the noise (which turns normal into Student
intervals). Every replicate repeats the whole analysis, exclusions included. Where the minima scatter about
their law by more than that noise explains, the excess (a moment estimate, as in random-effects
meta-regression) is added to each replicate's minima: the intervals then hold the misfit of parabola and
power law too. In simulations of 5 budgets × 6 sizes they cover the optimum at ten times the largest budget
at about their nominal rate. A thousand replicates of ten budgets cost about 0.1 s.

Left out: noise that differs between budgets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from ..forms.law import Array
from ..forms.power import PowerLaw, SaturatingPowerLaw
from .columns import positive_columns
from .parabola import REMEDIES, Curve, fit_curve, fitted_losses, free_residuals, lopsided, minima, off_centre
from .power import fit_above, fit_power, fit_saturating, power_at, saturating_at
from .prediction import Prediction, check_replicates, noise_factors, percentile_interval, prediction

SAME_BUDGET = 0.01  # budgets within this of each other, relatively, are one
FLOOR_BUDGETS = 4  # the floor of L*(C) is a third parameter: it takes this many minima
OFF_CENTRE = 0.6  # of the half span of a grid
LOPSIDED, LOPSIDED_SURE = 0.1, 2.33  # shift of log D* that is worth saying, and how sure it must be
UNKNOWN_FLOOR = (0.0, 0.9)  # where it may lie otherwise, as shares of the lowest minimum


@dataclass(frozen=True, eq=False, repr=False)
class IsoFLOPAnalysis:
    """The curves, the laws of their minima, and bootstrap draws of those laws (rows of NaN: no answer).

    ``tokens`` is D*(C), ``params`` N*(C), ``loss`` L*(C), in the C and N of the runs given. ``token_draws``
    and ``param_draws`` have shape (replicates, 2): coefficient, exponent; ``loss_draws`` (replicates, 3):
    floor, scale, exponent. ``run_sd`` is the noise of one run relative to its loss, NaN when no budget has
    more runs than its parabola has coefficients.
    """

    curves: tuple[Curve, ...]
    tokens: PowerLaw
    params: PowerLaw
    loss: SaturatingPowerLaw
    token_draws: Array
    param_draws: Array
    loss_draws: Array
    run_sd: float
    statuses: tuple[str, ...]
    scatter: Mapping[str, tuple[float, int]]
    seed: int

    def tokens_at(self, C: float, level: float = 0.95) -> Prediction:
        """Predict compute-optimal tokens; ``interval`` is for the minimum measured at a new budget."""
        means = self.draw_tokens(C)
        return prediction(self.tokens(C), means, means * self._noise("D", self.seed), level)

    def params_at(self, C: float, level: float = 0.95) -> Prediction:
        """Predict compute-optimal parameters; ``interval`` is for the minimum measured at a new budget."""
        means = self.draw_params(C)
        return prediction(self.params(C), means, means * self._noise("N", self.seed), level)

    def loss_at(self, C: float, level: float = 0.95) -> Prediction:
        """Predict the loss (nats/token) of a compute-optimal run; ``interval`` adds that run's noise."""
        means = self._mean_losses(C)
        return prediction(self.loss(C), means, means * self._noise("loss", self.seed), level)

    def draw_tokens(self, C: float) -> Array:
        """Draw the compute-optimal tokens at C, shape (replicates,)."""
        return power_at(self._at(C, self.token_draws), C)

    def draw_params(self, C: float) -> Array:
        """Draw the compute-optimal parameters at C, shape (replicates,)."""
        return power_at(self._at(C, self.param_draws), C)

    def draw_losses(self, C: float, seed: int = 0) -> Array:
        """Draw the loss of one compute-optimal run at C: doubt about the law and run noise, (replicates,)."""
        return self._mean_losses(C) * self._noise("loss", seed)

    def _mean_losses(self, C: float) -> Array:
        return saturating_at(self._at(C, self.loss_draws), C)

    def _at(self, C: float, draws: Array) -> Array:
        if not (np.isfinite(C) and C > 0):
            raise ValueError(f"the budget C is {C}; give a positive number of FLOPs")
        if not len(draws):
            raise ValueError("this analysis has no replicates, so no intervals; repeat it with replicates=1000")
        return draws

    def _noise(self, what: str, seed: int) -> Array:
        sd, freedom = self.scatter[what]
        return noise_factors(sd, freedom, len(self.token_draws), seed)

    def __repr__(self) -> str:
        return f"IsoFLOPAnalysis[{len(self.curves)} budgets, D*(C): {self.tokens}, N*(C): {self.params}]"

    def __str__(self) -> str:
        laws = [f"D*(C): {self.tokens}", f"N*(C): {self.params}", f"L*(C): {self.loss}"]
        return "\n".join([*laws, *map(str, self.curves), *self.statuses])


def analyse(
    C: ArrayLike, N: ArrayLike, D: ArrayLike, loss: ArrayLike, *, replicates: int = 1000, seed: int = 0
) -> IsoFLOPAnalysis:
    """Analyse runs at a few budgets C (FLOPs): N parameters, D tokens, loss in nats/token, each (runs,).

    C may be nominal: runs within 1 % share a budget, and N* follows the runs' own relation of N to D, so
    any convention of N and C will do that is the same for all. Raises ValueError for columns that differ in
    length or hold non-positive values, and when fewer than two budgets have a usable minimum (saying why
    for each). Softer trouble is said in ``statuses``.
    """
    columns = positive_columns(C=C, N=N, D=D, loss=loss)
    check_replicates(replicates)
    curves = [fit_curve(*runs) for runs in _budgets(*columns)]
    usable = [curve for curve in curves if curve.usable]
    if len(usable) < 2:
        why = "; ".join(f"C = {curve.budget:.4g}: {curve.status}" for curve in curves)
        raise ValueError(f"the laws need two budgets with a minimum inside their grid, not {len(usable)} ({why})")
    rng = np.random.default_rng([seed, 0])
    noise, freedom = _pooled_noise(curves)
    batch = _resample(usable, noise, freedom, replicates, rng)
    measured = np.array([[[curve.D_star, curve.N_star, curve.loss_star] for curve in usable]])
    budgets = np.array([curve.budget for curve in usable])
    laws = _fit_laws(budgets, measured, len(usable), np.array([np.mean(UNKNOWN_FLOOR)]))
    spreads = _spreads(budgets, measured[0], batch, laws, freedom)
    heights = rng.uniform(*UNKNOWN_FLOOR, len(batch))
    draws = _fit_laws(budgets, _scattered(batch, spreads, rng), len(usable), heights)
    run_sd = float(np.sqrt(np.mean(noise**2))) if freedom else float("nan")
    return IsoFLOPAnalysis(
        curves=tuple(_with_intervals(curves, usable, batch if freedom else batch[:0])),
        tokens=PowerLaw(*laws[0][0]),
        params=PowerLaw(*laws[1][0]),
        loss=SaturatingPowerLaw(*laws[2][0]),
        token_draws=draws[0],
        param_draws=draws[1],
        loss_draws=draws[2],
        run_sd=run_sd,
        statuses=tuple(_statuses(curves, usable, freedom, laws[2][0], batch, spreads)),
        scatter=_scatter(spreads, run_sd, freedom),
        seed=seed,
    )


def _budgets(C: Array, N: Array, D: Array, loss: Array) -> list[tuple[float, Array, Array, Array]]:
    """Group runs whose budgets are within 1 % of the group's smallest; its C is their geometric mean."""
    order = np.argsort(C)
    groups: list[list[int]] = []
    for row in order:
        if groups and C[row] <= C[groups[-1][0]] * (1 + SAME_BUDGET):
            groups[-1].append(int(row))
        else:
            groups.append([int(row)])
    return [(float(np.exp(np.log(C[rows]).mean())), N[rows], D[rows], loss[rows]) for rows in groups]


def _pooled_noise(curves: Sequence[Curve]) -> tuple[Array, int]:
    """Pool the freed relative residuals of all budgets, centred; and their degrees of freedom."""
    parts, freedoms = zip(*map(free_residuals, curves), strict=True)
    pool = np.concatenate(parts)
    return (pool - pool.mean() if pool.size else np.zeros(1)), sum(freedoms)


def _resample(curves: Sequence[Curve], noise: Array, freedom: int, replicates: int, rng: np.random.Generator) -> Array:
    """Return the minima of resampled budgets, shape (replicates, budgets, 3): D*, N*, L*, NaN where none."""
    known = np.sqrt(freedom / rng.chisquare(freedom, (replicates, 1))) if freedom else np.zeros((replicates, 1))
    copies = []
    for curve in curves:
        errors = known * rng.choice(noise, (replicates, curve.D.size))
        copies.append(minima(curve, fitted_losses(curve) * (1 + errors)))
    return np.stack(copies, axis=1)


def _fit_laws(budgets: Array, batch: Array, usable: int, heights: Array) -> tuple[Array, Array, Array]:
    """Fit D*(C), N*(C) and L*(C) to each set of minima.

    Few budgets cannot tell the floor of L*(C): it is then taken at ``heights`` (batch,), shares of the lowest minimum.
    """
    use = np.isfinite(batch[..., 0])
    D, N, loss = np.moveaxis(batch, -1, 0)
    if usable >= FLOOR_BUDGETS:
        law = fit_saturating(budgets, loss, use)
    else:
        law = fit_above(budgets, loss, use, heights * np.where(use, loss, np.inf).min(axis=1))
    return fit_power(budgets, D, use), fit_power(budgets, N, use), law


@dataclass(frozen=True)
class _Spread:
    """How minima scatter about their law, in logarithms: in all, and beyond what run noise explains."""

    total: float
    excess: float
    freedom: int


def _spreads(
    budgets: Array, measured: Array, batch: Array, laws: tuple[Array, Array, Array], noise_freedom: int
) -> list[_Spread]:
    """Compare the minima's scatter about each law with the scatter of their resampled copies."""
    count = len(budgets)
    tokens, params, loss = (law[0] for law in laws)
    fitted = power_at(tokens, budgets), power_at(params, budgets), saturating_at(loss, budgets)
    parameters = (2, 2, 3 if count >= FLOOR_BUDGETS else 2)
    spreads = []
    for column, (curve, p) in enumerate(zip(fitted, parameters, strict=True)):
        own = np.nanvar(np.log(batch[..., column]), axis=0).mean() if len(batch) else 0.0
        freedom = count - p
        total = float(np.sum(np.log(measured[:, column] / curve) ** 2) / freedom) if freedom else float(own)
        excess = max(total - float(own), 0.0)
        spreads.append(_Spread(total**0.5, excess**0.5, freedom or max(noise_freedom, 1)))
    return spreads


def _scattered(batch: Array, spreads: Sequence[_Spread], rng: np.random.Generator) -> Array:
    """Add each law's excess scatter to the resampled minima, as uncertain in size as its freedom makes it."""
    factors = np.empty_like(batch)
    for column, spread in enumerate(spreads):
        known = np.sqrt(spread.freedom / rng.chisquare(spread.freedom, (len(batch), 1)))
        errors = spread.excess * known * rng.standard_normal(batch.shape[:2])
        factors[..., column] = np.exp(np.clip(errors, -20, 20))  # with one degree of freedom they know no bound
    return batch * factors


def _scatter(spreads: Sequence[_Spread], run_sd: float, freedom: int) -> dict[str, tuple[float, int]]:
    """Say how one more measurement scatters: D and N as minima do, a loss by run noise and the excess."""
    tokens, params, loss = spreads
    run = (float(np.hypot(run_sd, loss.excess)), freedom) if freedom else (loss.total, loss.freedom)
    return {"D": (tokens.total, tokens.freedom), "N": (params.total, params.freedom), "loss": run}


def _with_intervals(curves: Sequence[Curve], usable: Sequence[Curve], batch: Array) -> list[Curve]:
    """Give every usable curve the 95 % intervals of its resampled minima."""
    if not len(batch):
        return list(curves)
    low, high = (np.asarray(bound) for bound in percentile_interval(batch, 0.95))
    found = {
        curve.budget: {name: (float(low[i, j]), float(high[i, j])) for j, name in enumerate(("D", "N", "loss"))}
        for i, curve in enumerate(usable)
    }
    return [replace(curve, intervals=found.get(curve.budget, curve.intervals)) for curve in curves]


def _shape_warning(curve: Curve) -> str:
    """Say when a curve's grid lies to one side of its minimum, or when the curve is not a parabola."""
    place = off_centre(curve)
    factor, deviations = lopsided(curve)
    said = []
    if abs(place) > OFF_CENTRE:
        said.append(
            f"the minimum lies {abs(place):.0%} of the way to the {'smallest' if place > 0 else 'largest'} model"
        )
    if abs(np.log(factor)) > LOPSIDED and deviations > LOPSIDED_SURE:
        said.append(f"the curve is lopsided: a cubic would put D* at {factor:.2f}×")
    if not said:
        return ""
    side = "smaller" if place > 0 else "larger"
    return f"C = {curve.budget:.4g}: {' and '.join(said)}; add {side} models, so that the grid is centred"


def _statuses(
    curves: Sequence[Curve],
    usable: Sequence[Curve],
    freedom: int,
    loss: Array,
    batch: Array,
    spreads: Sequence[_Spread],
) -> list[str]:
    said = [
        f"C = {curve.budget:.4g} is left out of the laws: {curve.status}; {REMEDIES[curve.status]}"
        for curve in curves
        if not curve.usable
    ]
    said += [warning for curve in usable if (warning := _shape_warning(curve))]
    if len(usable) == 2:
        said.append("two budgets: a power law passes through any two, so its own misfit cannot be seen")
    if len(usable) < FLOOR_BUDGETS:
        said.append(
            f"the floor of L*(C) is a guess: {len(usable)} budgets cannot tell it, {FLOOR_BUDGETS} can; the intervals "
            f"hold every floor up to {UNKNOWN_FLOOR[1]:.0%} of the lowest minimum"
        )
    elif loss[0] == 0:
        said.append("the floor of L*(C) is not identified: zero fits best; add larger budgets")
    if not freedom:
        said.append("run noise is not measured: no budget has more than 3 runs; intervals hold scatter only")
    for curve, lost in zip(usable, np.isnan(batch[..., 0]).mean(axis=0) if len(batch) else (), strict=False):
        if lost > 0.05:
            said.append(f"C = {curve.budget:.4g}: {lost:.0%} of the replicates have no minimum inside the grid")
    # Three times the variance that noise explains is rare by chance; under a percent it decides nothing.
    if spreads[0].total > 0.01 and spreads[0].excess ** 2 > spreads[0].total ** 2 * 2 / 3:
        said.append(
            f"the minima scatter by {np.expm1(spreads[0].total):.0%} about D*(C), mostly beyond run noise: "
            "the parabola or the power law does not hold exactly; the intervals are widened for it"
        )
    return said
