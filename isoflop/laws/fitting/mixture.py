"""Learn the loss of a mixture from small proxy runs: the exponential law, and regressions that claim no form.

Every run is a mixture of domains, one proportion each, and has a loss on one or more targets. Three predictors answer
alike, ``predict(weights) -> losses``: the law of :func:`fit_mixture`, and of :func:`regress_on_proxies` a linear
regression and gradient-boosted trees (RegMix: Liu et al. 2024). :func:`score` holds them against runs they have not
seen. What is asked of small proxies is the order of mixtures, not the loss of a larger model; and a proxy that never
repeats a token says nothing about a target run that repeats a domain many times.

The law is fitted as L = exp(a) + exp(t·r): damped Newton steps with exact second derivatives minimise a Huber loss of
the residuals in nats, from several floors exp(a), each started by least squares of log(L − floor). Targets, floors and
bootstrap replicates are one batch, whose curvatures are one matrix product. 512 runs of 17 domains and 13 targets take
0.15 s, a replicate of all targets 10 ms; the trees take 0.25 s a target. In simulations of 24 to 256 runs, 4 to 10
domains and 1 % noise, the 95 % intervals held the true loss and a new run's 93 to 95 % of the time.

Left out: saving trees (refit them, they are deterministic), cross-validated ridge, laws that know the model's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike

from ..forms.law import Array
from ..forms.mixture import ExponentialMixture
from .prediction import Prediction, check_replicates, prediction

if TYPE_CHECKING:
    from lightgbm import Booster

FLOORS = (0.05, 0.5, 0.9, 0.99)  # where the search for c starts, of the least loss
SEEN = 0.05  # a domain that no run holds more of is hardly known
_CHUNK = 64  # replicates refitted together: enough to fill a matrix product, few enough for the cache


class Predictor(Protocol):
    """Anything that maps mixtures (..., domains) to losses (..., targets), in nats per token."""

    def predict(self, weights: ArrayLike) -> Array:
        """Predict the losses of mixtures."""
        ...


@dataclass(frozen=True, eq=False)
class MixtureFit:
    """A fitted mixing law and what is known of its uncertainty.

    ``residuals`` are L − L_pred in nats, shape (runs, targets). ``draws`` holds bootstrap parameters, c and then t,
    shape (replicates, targets, 1 + domains). ``statuses`` say what makes the answer less than it seems.
    """

    law: ExponentialMixture
    residuals: Array
    draws: Array
    statuses: tuple[str, ...]
    seed: int = field(repr=False)

    def prediction(self, weights: ArrayLike, level: float = 0.95) -> Prediction:
        """Predict the targets' losses with intervals; mixtures (..., domains) give values (..., targets).

        Raises ValueError when the fit has no replicates.
        """
        value = self.law.predict(weights)
        means = self._means(weights)
        return prediction(value, means, means + self._noise(means.ndim), level)

    def overall(self, weights: ArrayLike, level: float = 0.95) -> Prediction:
        """Predict the overall loss Σ s_i·L_i with intervals; mixtures (..., domains) give values (...)."""
        means, s = self._means(weights), np.asarray(self.law.s)
        return prediction(self.law(weights), means @ s, (means + self._noise(means.ndim)) @ s, level)

    def _means(self, weights: ArrayLike) -> Array:
        if not len(self.draws):
            raise ValueError("this fit has no replicates, so no intervals; refit with replicates=200")
        r = np.asarray(weights, float)
        floors = self.draws[:, :, 0].reshape(len(self.draws), *[1] * (r.ndim - 1), -1)
        return np.asarray(floors + np.exp(np.einsum("...d,btd->b...t", r, self.draws[:, :, 1:])))

    def _noise(self, axes: int) -> Array:
        """Draw the noise of one run for every replicate: a run's residuals, so that targets err together."""
        runs, targets = self.residuals.shape
        rows = np.random.default_rng([self.seed, 1]).integers(runs, size=len(self.draws))
        return self.errors[rows].reshape(-1, *[1] * (axes - 2), targets)

    @property
    def errors(self) -> Array:
        """What the law misses of single runs: residuals (runs, targets), widened by what the fit took out of them."""
        runs = len(self.residuals)
        return np.asarray(np.sqrt(runs / max(1, runs - self.draws.shape[2])) * self.residuals)


def fit_mixture(
    weights: ArrayLike,
    losses: ArrayLike,
    *,
    domains: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    shares: Sequence[float] = (),
    floor: bool = True,
    delta: float = 0.01,
    replicates: int = 0,
    seed: int = 0,
) -> MixtureFit:
    """Fit L_i = c_i + exp(Σ_j t_ij·r_j), c_i ≥ 0, to each target by minimising Σ Huber_δ(L_pred − L).

    ``weights`` are the proportions of the runs, shape (runs, domains), used as they are (tables round them);
    ``losses`` have shape (runs, targets), or (runs,) for one target, in nats per token. ``shares`` are the law's s.
    Without ``floor`` c is held at zero: the log-linear law. ``delta`` is in nats, by default that of the authors' code;
    a large one is least squares. ``replicates`` refits of resampled runs give intervals; 200 is a good number.
    Source: Ye et al. 2024, arXiv 2403.16952.

    Raises ValueError for columns that disagree, proportions that are negative or do not sum to one, losses that are not
    positive, too few runs, and mixtures that do not tell the domains apart.
    """
    r, y = _runs(weights, losses)
    domain_names, target_names = _names(domains, r.shape[1], "domain"), _names(targets, y.shape[1], "target")
    if not delta > 0:
        raise ValueError(f"delta is {delta}; give a positive residual in nats, such as 0.01")
    check_replicates(replicates)
    _check_design(r, domain_names)
    optimum = _minimum(r, y, delta, FLOORS if floor else (0.0,))
    floors, t = np.exp(optimum[:, 0]).tolist(), [tuple(row) for row in optimum[:, 1:].tolist()]
    law = ExponentialMixture(domain_names, target_names, tuple(floors), (1.0,) * len(t), tuple(t), tuple(shares))
    draws = _bootstrap(r, y, optimum, delta, replicates, seed)
    return MixtureFit(law, y - law.predict(r), draws, tuple(_statuses(r, y, law)), seed)


def _runs(weights: ArrayLike, losses: ArrayLike) -> tuple[Array, Array]:
    """Return proportions (runs, domains) and losses (runs, targets), or say which row is wrong."""
    r, y = np.asarray(weights, float), np.asarray(losses, float)
    y = y[:, None] if y.ndim == 1 else y
    if r.ndim != 2 or y.ndim != 2 or len(r) != len(y):
        raise ValueError(f"weights {r.shape} and losses {y.shape} must be (runs, domains) and (runs, targets)")
    wrong = np.flatnonzero(~((r >= 0).all(axis=1) & (np.abs(r.sum(axis=1) - 1) < 0.01)))
    if wrong.size:
        raise ValueError(f"the proportions of run {wrong[0]} are negative or sum to {r[wrong[0]].sum():.4g}, not to 1")
    wrong = np.flatnonzero(~(np.isfinite(y) & (y > 0)).all(axis=1))
    if wrong.size:
        raise ValueError(f"the losses of run {wrong[0]} are {y[wrong[0]]}; they must be positive and finite")
    return r, y


def _names(names: Sequence[str] | None, count: int, what: str) -> tuple[str, ...]:
    given = tuple(f"{what}{i + 1}" for i in range(count)) if names is None else tuple(names)
    if len(given) != count:
        raise ValueError(f"there are {len(given)} {what} names for {count} columns")
    return given


def _check_design(r: Array, domains: tuple[str, ...]) -> None:
    runs, count = r.shape
    if runs < count + 2:
        raise ValueError(f"{runs} runs cannot determine a floor, {count} domains and the noise; give {count + 2}")
    absent = [name for name, most in zip(domains, r.max(axis=0), strict=True) if most == 0]
    if absent:
        raise ValueError(f"no run holds any of {', '.join(absent)}; leave these columns out or run mixtures with them")
    rank = np.linalg.matrix_rank(r, tol=1e-6 * np.sqrt(runs))
    if rank < count:
        raise ValueError(f"the mixtures vary in {rank} directions only, so {count} domains cannot be told apart")


def _minimum(r: Array, y: Array, delta: float, floors: Sequence[float]) -> Array:
    """Return the best θ = (log c, t) of each target over the floors started from, shape (targets, 1 + domains)."""
    least = np.outer(floors, y.min(axis=0))  # (floors, targets)
    excess = np.log(y.T[None] - least[:, :, None])
    slopes = np.linalg.lstsq(r, excess.reshape(-1, len(r)).T, rcond=None)[0].T
    with np.errstate(divide="ignore"):
        starts = np.concatenate([np.log(least).reshape(-1, 1), slopes], axis=1)
    losses = np.tile(y.T, (len(floors), 1))
    minima, heights = _descend(starts, r, losses, np.ones_like(losses), delta)
    shape = len(floors), y.shape[1]
    best = heights.reshape(shape).argmin(axis=0)
    return np.asarray(minima.reshape(*shape, -1)[best, np.arange(shape[1])])


def _descend(
    theta: Array, r: Array, y: Array, weights: Array, delta: float, tolerance: float = 1e-13
) -> tuple[Array, Array]:
    """Minimise Σ w·Huber_δ from each θ (batch, 1 + domains), y and weights (batch, runs); return minima and objectives.

    The first steps take the curvature of reweighted least squares, which is safe far away, the rest the exact one. A
    search ends when three steps running gained less than ``tolerance`` of its objective.
    """
    theta, products = theta.copy(), (r[:, :, None] * r[:, None, :]).reshape(len(r), -1)
    height = _objective(theta, r, y, weights, delta)
    damping, idle, live = np.full(len(theta), 1e-2), np.zeros(len(theta), int), np.arange(len(theta))
    places = np.arange(theta.shape[1])
    for iteration in range(300):
        slope, curvature, scale = _derivatives(theta[live], r, products, y[live], weights[live], delta, iteration >= 8)
        curvature[:, places, places] += damping[live, None] * scale
        trial = theta[live] - np.clip(np.linalg.solve(curvature, slope[..., None])[..., 0], -2.0, 2.0)
        reached = _objective(trial, r, y[live], weights[live], delta)
        lower = reached < height[live]
        small = np.abs(height[live] - reached) <= tolerance * (height[live] + 1e-18)
        theta[live[lower]], height[live[lower]] = trial[lower], reached[lower]
        damping[live] = np.clip(np.where(lower, damping[live] / 3, damping[live] * 4), 1e-12, 1e12)
        idle[live] = np.where(small, idle[live] + 1, 0)
        live = live[(idle[live] < 3) | (iteration < 8)]
        if not live.size:
            break
    return theta, height


def _objective(theta: Array, r: Array, y: Array, weights: Array, delta: float) -> Array:
    size = np.abs(np.exp(theta[:, :1]) + np.exp(np.minimum(theta[:, 1:] @ r.T, 50.0)) - y)
    inner = np.minimum(size, delta)
    return np.asarray((weights * inner * (size - inner / 2)).sum(axis=1))


def _derivatives(
    theta: Array, r: Array, products: Array, y: Array, weights: Array, delta: float, exact: bool
) -> tuple[Array, Array, Array]:
    """Return gradient, curvature and a positive scale of the objective by θ; ``products`` are r_j·r_k per run."""
    floor, excess = np.exp(theta[:, 0]), np.exp(theta[:, 1:] @ r.T)
    residual = floor[:, None] + excess - y
    pull = weights * np.clip(residual, -delta, delta)
    safe = weights * np.minimum(1.0, delta / np.maximum(np.abs(residual), 1e-300))
    own, bend = (weights * (np.abs(residual) <= delta), pull) if exact else (safe, 0 * pull)
    batch, size = theta.shape
    curvature = np.empty((batch, size, size))
    curvature[:, 0, 0] = floor**2 * own.sum(axis=1) + floor * bend.sum(axis=1)
    curvature[:, 0, 1:] = curvature[:, 1:, 0] = floor[:, None] * ((own * excess) @ r)
    curvature[:, 1:, 1:] = ((own * excess**2 + bend * excess) @ products).reshape(batch, size - 1, size - 1)
    slope = np.concatenate([(floor * pull.sum(axis=1))[:, None], (pull * excess) @ r], axis=1)
    scale = np.concatenate([(floor**2 * safe.sum(axis=1))[:, None], (safe * excess**2) @ r**2], axis=1)
    return slope, curvature, scale + 1e-12 * scale.max(axis=1, keepdims=True) + 1e-300


def _bootstrap(r: Array, y: Array, optimum: Array, delta: float, replicates: int, seed: int) -> Array:
    """Refit resampled runs from the optimum; return c and t, shape (replicates, targets, 1 + domains)."""
    runs, targets = y.shape
    counts = np.random.default_rng([seed, 0]).multinomial(runs, np.full(runs, 1 / runs), replicates).astype(float)
    draws = np.empty((replicates, *optimum.shape))
    for first in range(0, replicates, _CHUNK):
        chunk = counts[first : first + _CHUNK]
        for target in range(targets):
            start = np.repeat(optimum[target : target + 1], len(chunk), axis=0)
            losses = np.broadcast_to(y[:, target], chunk.shape)
            draws[first : first + _CHUNK, target] = _descend(start, r, losses, chunk, delta, tolerance=1e-8)[0]
    draws[:, :, 0] = np.exp(draws[:, :, 0])
    return draws


def _statuses(r: Array, y: Array, law: ExponentialMixture) -> list[str]:
    runs, count = r.shape
    statuses = []
    if runs < 2 * (count + 1):
        statuses.append(f"too few runs: {runs} for the {count + 1} parameters of a target; the intervals are rough")
    rare = [name for name, most in zip(law.domains, r.max(axis=0), strict=True) if most < SEEN]
    if rare:
        statuses.append(f"no run holds {SEEN:.0%} of {', '.join(rare)}: what more of it does is extrapolated")
    floors = zip(law.targets, law.c, y.min(axis=0), strict=True)
    bottomless = [name for name, c, least in floors if 0 < c < 1e-3 * least]
    if bottomless:
        statuses.append(f"the floor of {', '.join(bottomless)} is zero: its runs show no floor")
    return statuses


@dataclass(frozen=True, eq=False)
class LinearRegression:
    """L_i = Σ_j b_ij·r_j, ``coefficients`` (targets, domains): b_ij is the loss of training on domain j alone.

    Proportions sum to one, so a constant would add nothing.
    """

    coefficients: Array

    def predict(self, weights: ArrayLike) -> Array:
        """Predict the losses of mixtures (..., domains); shape (..., targets)."""
        return np.asarray(np.asarray(weights, float) @ self.coefficients.T)


@dataclass(frozen=True, eq=False)
class BoostedTrees:
    """One LightGBM ensemble per target."""

    boosters: tuple[Booster, ...]

    def predict(self, weights: ArrayLike) -> Array:
        """Predict the losses of mixtures (..., domains); shape (..., targets)."""
        r = np.asarray(weights, float)
        rows = r.reshape(-1, r.shape[-1])
        columns = [np.asarray(booster.predict(rows, num_threads=1), float) for booster in self.boosters]
        return np.stack(columns, axis=-1).reshape(*r.shape[:-1], -1)


def regress_on_proxies(
    weights: ArrayLike,
    losses: ArrayLike,
    method: Literal["linear", "trees"] = "trees",
    *,
    ridge: float = 0.0,
    rounds: int = 1000,
    seed: int = 42,
) -> LinearRegression | BoostedTrees:
    """Regress losses (runs, targets) or (runs,) on proportions (runs, domains), as RegMix does.

    "linear" is least squares; ``ridge`` draws its coefficients towards the mean loss. "trees" are RegMix's: squared
    error, learning rate 0.01, LightGBM's defaults otherwise; always ``rounds`` of them, where the authors stop early on
    the runs that they then score. One thread and a fixed ``seed``: the same runs give the same trees.

    Raises ValueError for runs that are not mixtures with losses, and ImportError where LightGBM is missing.
    """
    r, y = _runs(weights, losses)
    if method == "trees":
        return _boosted_trees(r, y, rounds, seed)
    if ridge < 0:
        raise ValueError(f"ridge is {ridge}; give zero or a positive number")
    domains, mean = r.shape[1], y.mean(axis=0)
    # As proportions sum to one, a level common to all coefficients is a constant: penalise what departs from the mean.
    rows = np.concatenate([r, np.sqrt(ridge) * np.eye(domains)])
    departures = np.concatenate([y - np.outer(r.sum(axis=1), mean), np.zeros((domains, y.shape[1]))])
    return LinearRegression(mean[:, None] + np.linalg.lstsq(rows, departures, rcond=None)[0].T)


def _boosted_trees(r: Array, y: Array, rounds: int, seed: int) -> BoostedTrees:
    try:
        import lightgbm
    except ImportError:
        raise ImportError("gradient-boosted trees need LightGBM: pip install 'isoflop[mixing]'") from None
    options = {"objective": "regression", "learning_rate": 0.01, "seed": seed, "verbosity": -1}
    options |= {"num_threads": 1, "deterministic": True, "force_col_wise": True}
    return BoostedTrees(tuple(lightgbm.train(options, lightgbm.Dataset(r, column), rounds) for column in y.T))


@dataclass(frozen=True)
class Score:
    """How predictions did on held-out runs, one entry per target: rank correlation and error.

    ``spearman`` is between −1 and 1; ``error`` is the root mean square in nats. Against runs of another size only the
    first means anything.
    """

    spearman: tuple[float, ...]
    error: tuple[float, ...]


def score(predictor: Predictor, weights: ArrayLike, losses: ArrayLike) -> Score:
    """Hold a predictor against the losses (runs, targets) or (runs,) of mixtures (runs, domains)."""
    r, y = _runs(weights, losses)
    predicted = predictor.predict(r)
    if predicted.shape != y.shape:
        raise ValueError(f"the predictor knows {predicted.shape[1]} targets, the losses have {y.shape[1]}")
    errors = np.sqrt(((predicted - y) ** 2).mean(axis=0))
    ranks = (spearman(a, b) for a, b in zip(predicted.T, y.T, strict=True))
    return Score(tuple(ranks), tuple(float(error) for error in errors))


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Correlate the ranks of two vectors, ties sharing their mean rank; NaN when either is constant."""
    x, y = (_ranks(np.asarray(column, float)) for column in (a, b))
    x, y = x - x.mean(), y - y.mean()
    spread = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / spread) if spread > 0 else float("nan")


def _ranks(column: Array) -> Array:
    _, place, counts = np.unique(column, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])
