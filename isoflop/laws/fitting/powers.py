"""Fit a product of powers, y = coefficient · Π x^exponent: how the best learning rate, or batch, grows with N and D.

Ordinary least squares in logarithms, which is exact and needs no start. Error bars come from a bootstrap, of which
there are two, as for surfaces: 40 rows or more are resampled with replacement; with fewer the design stays and
residuals are resampled with random signs and every replicate is scaled by its own residuals (Efron's bootstrap-t).
In simulations of 5 to 129 rows with one or two quantities, the 95 % intervals of an exponent, of the mean far outside
the rows and of one new measurement there held the truth 93 to 96 % of the time; without the scaling 83 to 94 %.

Cost: 1,000 replicates of 130 rows take about 9 ms, of 20 rows 1 ms.

Left out: weights, and rows that hang together (several runs of one N and D count as so many independent rows).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from ..forms.hyperparameters import PowerProduct, Powers
from ..forms.law import Array
from .columns import positive_columns
from .prediction import Prediction, check_replicates, noise_factors, percentile_interval, prediction

FEW_ROWS = 40


@dataclass(frozen=True, eq=False)
class PowersFit:
    """A fitted product of powers and what is known of its uncertainty.

    ``residuals`` are log y - log y_pred per row, ``residual_sd`` their standard deviation, corrected for the numbers
    fitted. ``draws`` holds bootstrap replicates, shape (replicates, 1 + quantities): the logarithm of the
    coefficient, then the exponents in the order of ``names``.
    """

    law: PowerProduct
    names: tuple[str, ...]
    residuals: Array
    residual_sd: float
    draws: Array
    seed: int = field(repr=False)

    def predict(self, level: float = 0.95, **quantities: ArrayLike) -> Prediction:
        """Predict y at quantities given by name, with intervals of the mean and of one more measurement.

        Raises ValueError when the fit has no replicates, and for a quantity missing or not positive.
        """
        value = np.asarray(self.law(**quantities))
        columns = np.broadcast_arrays(*(np.asarray(quantities[name], float) for name in self.names))
        logs = np.tensordot(self._replicates(), np.log([np.full(value.shape, np.e), *columns]), axes=1)
        means = np.exp(np.clip(logs, -600, 600))  # a draw that runs off the numbers stays at a huge or tiny one
        noise = noise_factors(self.residual_sd, len(self.residuals) - len(self.names) - 1, len(means), self.seed)
        return prediction(value, means, means * noise.reshape(-1, *[1] * value.ndim), level)

    def exponent_intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Give the percentile interval of each exponent by name."""
        low, high = map(np.atleast_1d, percentile_interval(self._replicates()[:, 1:], level))
        return {name: (float(a), float(b)) for name, a, b in zip(self.names, low, high, strict=True)}

    def _replicates(self) -> Array:
        if not len(self.draws):
            raise ValueError("this fit has no replicates, so no intervals; refit with replicates=1000")
        return self.draws


def fit_powers(y: ArrayLike, *, replicates: int = 0, seed: int = 0, **quantities: ArrayLike) -> PowersFit:
    """Fit y = coefficient · Π x^exponent by least squares of log y, with ``replicates`` bootstrap refits.

    y and every quantity have shape (rows,); quantities are named as in
    :class:`~isoflop.laws.forms.hyperparameters.PowerProduct`, as in ``fit_powers(best_batch, D=tokens)``.

    Raises ValueError for an unknown quantity, for columns that differ in length or hold non-positive values, for no
    more rows than numbers to fit, and for quantities that do not vary apart from each other.
    """
    unknown = ", ".join(set(quantities) - set(Powers.__dataclass_fields__))
    if unknown or not quantities:
        known = ", ".join(Powers.__dataclass_fields__)
        raise ValueError(f"{unknown or 'nothing'} is no quantity of a rule; name one or more of {known}")
    target, *columns = (np.log(column) for column in positive_columns(y=y, **quantities))
    check_replicates(replicates)
    names = tuple(quantities)
    centres = np.array([column.mean() for column in columns])
    design = np.stack([np.ones_like(target), *columns], axis=1) - [0.0, *centres]
    freedom = len(target) - 1 - len(names)
    if freedom < 1:
        raise ValueError(f"{len(target)} rows cannot determine {1 + len(names)} numbers and the noise; give more")
    if np.linalg.matrix_rank(design, tol=1e-6 * len(target)) <= len(names):
        raise ValueError(f"these rows do not tell {' and '.join(names)} apart: each must vary, and not only together")
    fitted = np.linalg.lstsq(design, target, rcond=None)[0]
    residuals = target - design @ fitted
    centred = np.vstack([fitted, _bootstrap(design, target, fitted, replicates, np.random.default_rng([seed, 0]))])
    centred[:, 0] -= centred[:, 1:] @ centres  # from log y at the centre to the logarithm of the coefficient
    law = PowerProduct(coefficient=float(np.exp(centred[0, 0])), **dict(zip(names, centred[0, 1:], strict=True)))
    sd = float(np.sqrt(residuals @ residuals / freedom))
    return PowersFit(law, names, residuals, sd, centred[1:], seed)


def _bootstrap(design: Array, target: Array, fitted: Array, replicates: int, rng: np.random.Generator) -> Array:
    """Refit resampled rows or residuals; shape (replicates, numbers fitted)."""
    rows, numbers = design.shape
    if rows < FEW_ROWS:
        size = (replicates, rows)
        residuals = target - design @ fitted
        noise = rng.choice([-1.0, 1.0], size) * rng.choice(residuals, size)
        moved = noise @ np.linalg.pinv(design).T
        own = np.linalg.norm(noise - moved @ design.T, axis=1)  # a replicate is as wide as it knows itself to be
        studentised = np.linalg.norm(residuals) / np.maximum(own, 1e-300)
        return np.asarray(fitted + moved * studentised[:, None], np.float64)
    counts = rng.multinomial(rows, np.full(rows, 1 / rows), replicates)
    grams = (counts @ (design[:, :, None] * design[:, None, :]).reshape(rows, -1)).reshape(-1, numbers, numbers)
    grams[np.linalg.eigvalsh(grams)[:, 0] < 1e-9 * rows] = np.nan  # this draw cannot tell the quantities apart
    return np.asarray(np.linalg.solve(grams, (counts @ (design * target[:, None]))[..., None])[..., 0], np.float64)
