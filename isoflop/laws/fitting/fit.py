"""Fit a law to runs: the global optimum of a robust objective, and error bars meant for extrapolation.

    >>> fit(runs, Chinchilla(), replicates=1000).optimal(1e22)

The objective is Σ w·Huber_δ(log L_pred − log L), as Hoffmann et al. 2022. Starts come from variable projection over
a grid of exponents (:mod:`.terms`), searches are damped Newton (:mod:`.newton`), and nothing is left for the user to
scale or to guess. A form's blanks are fitted; what it has already is held.

Cost: 15 ms for Chinchilla's 240 runs and 0.2 ms a replicate (`benchmarks/fit.py`); forms that are not sums of powers
take some ten times that.

Left out: model misspecification (the intervals assume that the form holds; :mod:`.validation` asks whether it does).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike

from ..forms.chinchilla import Chinchilla, compute_optimal
from ..forms.law import Array, Law
from ..forms.surface import FLOPS, LossSurface
from .bootstrap import refits
from .prediction import Prediction, check_replicates, noise_factors, percentile_interval, prediction
from .recipes import Bound, bind, variables_of
from .runs import Runs, read_runs
from .search import Problem, robust_sd
from .statuses import statuses_of

L = TypeVar("L", bound=Law, covariant=True)
F = TypeVar("F", bound=Law)


@dataclass(frozen=True)
class OptimalPrediction:
    """How to spend C FLOPs, with intervals: parameters N, tokens D, D/N, and the loss of that run (nats/token).

    N, D and D/N are choices, not measurements: both of their intervals are that of the optimum.
    """

    C: float
    N: Prediction
    D: Prediction
    tokens_per_parameter: Prediction
    loss: Prediction

    def __str__(self) -> str:
        lines = (("N", self.N), ("D", self.D), ("D/N", self.tokens_per_parameter), ("loss", self.loss))
        return "\n".join([f"C = {self.C:.4g} FLOPs", *(f"  {name:<5} {value}" for name, value in lines)])


@dataclass(frozen=True, eq=False, repr=False)
class Fit(Generic[L]):
    """A fitted law and what is known of its uncertainty.

    ``residuals`` are log L − log L_pred per run; ``residual_sd`` is their robust standard deviation, corrected for the
    fitted parameters. ``draws`` holds bootstrap parameters, shape (replicates, parameters), in the order of the law's
    fields. ``statuses`` are sentences about anything that makes the answer less than it seems.
    """

    law: L
    runs: Runs
    objective: float
    residuals: Array
    residual_sd: float
    draws: Array
    statuses: tuple[str, ...]
    seed: int
    theta: Array
    theta_draws: Array
    problem: Problem

    @property
    def bound(self) -> Bound:
        """The form as it was bound to the runs."""
        return self.problem.bound

    @property
    def freedom(self) -> int:
        """Runs less fitted parameters."""
        return self.residuals.size - len(self.bound.free)

    @property
    def surface(self) -> LossSurface:
        """The law, as one of N and D. Raises ValueError for a law of something else."""
        if not isinstance(self.law, LossSurface):
            raise ValueError(f"{type(self.law).__name__} is not a law of N and D: it has no compute-optimal point")
        return self.law

    def predict(self, *point: ArrayLike, level: float = 0.95) -> Prediction:
        """Predict the loss (nats/token) at N and D, or whatever the form's variables are; they broadcast.

        Raises ValueError when the fit has no replicates, and for values that are not positive.
        """
        value, means = self._evaluate(self.theta[None], *point)[0], self._evaluate(self._replicates(), *point)
        noise = self._noise(self.seed).reshape(-1, *[1] * (means.ndim - 1))
        return prediction(value, means, means * noise, level)

    def draw_losses(self, *point: float, seed: int = 0) -> Array:
        """Draw the loss of one run at a point: the law's doubt and the run's noise, shape (replicates,).

        The seed is that of the noise: give another run another seed.
        """
        return self._evaluate(self._replicates(), *point) * self._noise(seed)

    def draw_means(self, *point: ArrayLike) -> Array:
        """Draw the mean loss at a point, without a run's noise: (replicates, *shape of the point)."""
        return self._evaluate(self._replicates(), *point)

    def optimal(self, C: float, level: float = 0.95) -> OptimalPrediction:
        """Spend C FLOPs (C = 6ND) for the lowest loss, with intervals for N, D, D/N and the loss.

        The loss interval is that of training at the point estimate of N and D. Raises ValueError when the fit has no
        replicates or the law no optimum, and for a law that is not of N and D.
        """
        best = self.surface.optimal(C)
        N, D = self.draw_optimum(C)
        return OptimalPrediction(
            C=C,
            N=prediction(best.N, N, N, level),
            D=prediction(best.D, D, D, level),
            tokens_per_parameter=prediction(best.D / best.N, D / N, D / N, level),
            loss=self.predict(best.N, best.D, level=level),
        )

    def draw_optimum(self, C: float) -> tuple[Array, Array]:
        """Draw the compute-optimal N and D at C, each of shape (replicates,); of repeated data, as if all were fresh.

        In every form here N and D meet in a sum A/N^α + B/D^β, of which the loss is an increasing function.
        """
        A, alpha, B, beta = self.bound.trade_off(self._replicates())
        return compute_optimal(np.stack([A, A, alpha, B, beta], axis=-1), C)

    @property
    def size_exponent(self) -> float:
        """The a of N* ∝ C^a; D* goes with 1 − a."""
        return float(self._size_exponents(self.theta[None])[0])

    def draw_size_exponent(self) -> Array:
        """Draw the a of N* ∝ C^a, shape (replicates,)."""
        return self._size_exponents(self._replicates())

    def _size_exponents(self, theta: Array) -> Array:
        _, alpha, _, beta = self.bound.trade_off(theta)
        return np.asarray(beta / (alpha + beta))

    def parameter_intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Give the percentile interval of each fitted parameter by name."""
        self._replicates()
        low, high = map(np.atleast_1d, percentile_interval(self.draws, level))
        bounds = zip(self.law.parameters(), low, high, strict=True)
        blanks = self.bound.form.blanks()
        return {name: (float(a), float(b)) for name, a, b in bounds if name in blanks}

    def to_json(self) -> dict[str, Any]:
        """The law, its intervals and its statuses as plain values."""
        intervals = self.parameter_intervals() if len(self.theta_draws) else {}
        return {
            "law": self.law.to_json(),
            "intervals_95": intervals,
            "residual_sd": self.residual_sd,
            "objective": self.objective,
            "runs": self.residuals.size,
            "statuses": list(self.statuses),
        }

    def __repr__(self) -> str:
        return f"Fit[{self.law}, {self.residuals.size} runs, {len(self.draws)} replicates]"

    def __str__(self) -> str:
        lines = [f"{self.law}   ({self.residuals.size} runs, residual sd {self.residual_sd:.2%})"]
        if len(self.theta_draws):
            intervals = self.parameter_intervals().items()
            lines += [f"  {name:<6} 95% {low:.5g} to {high:.5g}" for name, (low, high) in intervals]
        return "\n".join([*lines, *(f"  note: {status}" for status in self.statuses)])

    def _replicates(self) -> Array:
        if not len(self.theta_draws):
            raise ValueError(
                "this fit has no replicates, so no intervals; refit with replicates=1000, or ask fit.law for the point"
            )
        return self.theta_draws

    def _evaluate(self, theta: Array, *point: ArrayLike) -> Array:
        variables = self.bound.recipe.variables
        if len(point) != len(variables):
            name = type(self.law).__name__
            raise ValueError(f"{name} is a law of {', '.join(variables)}: give {len(variables)} values")
        columns = np.broadcast_arrays(*(np.asarray(p, float) for p in point))
        for name, column in zip(variables, columns, strict=True):
            if not np.all(np.isfinite(column) & (column > 0)):
                raise ValueError(f"{name} must be positive and finite to predict a loss")
        model = self.bound.at({name: column.ravel() for name, column in zip(variables, columns, strict=True)})
        logs = np.minimum(model.log_loss(theta), 460.0)  # a draw that runs off the numbers is merely very bad
        return np.asarray(np.exp(logs).reshape(len(theta), *columns[0].shape))

    def _noise(self, seed: int) -> Array:
        return noise_factors(self.residual_sd, self.freedom, len(self.theta_draws), seed)


@overload
def fit(
    runs: Any,
    *,
    x: str | None = None,
    columns: Mapping[str, str] | None = None,
    delta: float = 1e-3,
    replicates: int = 0,
    seed: int = 0,
    weights: ArrayLike | None = None,
) -> Fit[Chinchilla]: ...
@overload
def fit(
    runs: Any,
    form: F | type[F],
    *,
    x: str | None = None,
    columns: Mapping[str, str] | None = None,
    delta: float = 1e-3,
    replicates: int = 0,
    seed: int = 0,
    weights: ArrayLike | None = None,
) -> Fit[F]: ...
def fit(
    runs: Any,
    form: Law | type[Law] = Chinchilla,
    *,
    x: str | None = None,
    columns: Mapping[str, str] | None = None,
    delta: float = 1e-3,
    replicates: int = 0,
    seed: int = 0,
    weights: ArrayLike | None = None,
) -> Fit[Any]:
    """Fit the blanks of ``form`` to runs by minimising Σ w·Huber_δ(log L_pred − log L).

    ``runs`` is anything that :func:`~.runs.read_runs` reads, with ``columns`` as there; ``x`` says which column a law
    of one variable is of ("N", "D" or "C"). ``weights`` are importances, one per run; zero leaves a run out.
    ``replicates`` bootstrap refits give intervals; 1,000 is a good number.

    Raises ValueError for faulty runs (see read_runs), for no more runs than parameters, and for runs of one budget
    alone, where N and D cannot be told apart. Softer trouble is said in ``statuses``.
    """
    table = read_runs(runs, columns=columns)
    law = form() if isinstance(form, type) else form
    w = np.ones(len(table)) if weights is None else _importances(weights, len(table))
    table, w = table.take(w > 0), w[w > 0]  # a run without weight is as if it were not there
    bound = bind(law, _variables(law, table, x))
    _refuse_undetermined(bound, table)
    if not delta > 0:
        raise ValueError(f"delta is {delta}; give a positive log residual, such as 0.001")
    check_replicates(replicates)
    problem = Problem(bound, np.log(table.loss), w, delta)
    theta, height = problem.minimum()
    residuals = problem.residuals(theta)
    sd = robust_sd(residuals, len(bound.free))
    theta_draws = refits(problem, theta, residuals, replicates, seed)
    return Fit(
        law=bound.law(theta),
        runs=table,
        objective=height,
        residuals=residuals,
        residual_sd=sd,
        draws=bound.natural(theta_draws),
        statuses=statuses_of(problem, table, theta, theta_draws, residuals, sd),
        seed=seed,
        theta=theta,
        theta_draws=theta_draws,
        problem=problem,
    )


def _variables(law: Law, runs: Runs, x: str | None) -> dict[str, Array]:
    wanted = variables_of(law)
    if wanted == ("x",):
        if x is None:
            raise ValueError(f"{type(law).__name__} is a law of one variable: say which, x='N', 'D' or 'C'")
        return {"x": runs.column(x)}
    return {name: runs.column(name) for name in wanted}


def _importances(weights: ArrayLike, count: int) -> Array:
    w = np.asarray(weights, float)
    if w.shape != (count,) or not np.all(np.isfinite(w) & (w >= 0)) or not w.any():
        raise ValueError(f"weights must be {count} finite numbers that are not negative, one per run, not all zero")
    return w


def _refuse_undetermined(bound: Bound, runs: Runs) -> None:
    free = len(bound.free)
    if len(runs) <= free:
        raise ValueError(f"{len(runs)} runs cannot determine {free} parameters and the noise; give at least {free + 1}")
    if set(bound.recipe.variables) >= {"N", "D"}:
        product = np.log(runs.N * runs.D)
        if np.ptp(product) < 0.02:
            raise ValueError(
                f"all {len(runs)} runs have one budget, C = {np.exp(product.mean()) * FLOPS:.4g}: along it N and D "
                "mirror each other, so no law of both can be told; add runs of other budgets"
            )
