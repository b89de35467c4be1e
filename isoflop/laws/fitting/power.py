"""Fit power laws of one variable, for a batch of data sets at once: straight in logarithms, or with a floor.

A batch shares its abscissas x (one per compute budget) and differs in ordinates, shape (batch, points), and
in which points count, ``use`` (batch, points). Members with too few points to fit give NaN. A batch of
1,000 at ten points costs about 20 ms with a floor, and next to nothing without.
"""

from __future__ import annotations

import numpy as np

from ..forms.law import Array, Mask

FALL = (0.01, 2.0)  # the searched exponents of L = floor + (scale/C)^exponent


def fit_power(x: Array, y: Array, use: Mask) -> Array:
    """Fit y = coefficient · x^exponent by ordinary least squares of log y on log x; shape (batch, 2)."""
    u = np.log(x)
    v = np.where(use, np.log(np.where(use, y, 1.0)), 0.0)
    enough = use.sum(axis=1) >= 2
    count = np.where(enough, use.sum(axis=1), np.nan)
    mean_u, mean_v = use @ u / count, v.sum(axis=1) / count
    centred = np.where(use, u - mean_u[:, None], 0.0)
    with np.errstate(invalid="ignore"):
        exponent = (centred * v).sum(axis=1) / (centred**2).sum(axis=1)
    return np.stack([np.exp(np.clip(mean_v - exponent * mean_u, -600, 600)), exponent], axis=1)


def power_at(laws: Array, x: float | Array) -> Array:
    """Evaluate laws (..., 2) at x; a draw that runs off the numbers stays at a huge or tiny one."""
    logs = np.log(laws[..., 0]) + laws[..., 1] * np.log(x)
    return np.exp(np.clip(logs, -600, 600))


def saturating_at(laws: Array, x: float | Array) -> Array:
    """Evaluate laws (..., 3) at x."""
    return np.asarray(laws[..., 0] + (laws[..., 1] / x) ** laws[..., 2])


def fit_above(x: Array, y: Array, use: Mask, floors: Array) -> Array:
    """Fit y = floor + (scale/x)^exponent with the floors given, (batch,): floor, scale, exponent, (batch, 3).

    Ordinary least squares of log(y − floor) on log x; floors must lie below every y that counts.
    """
    above = np.where(use, y - floors[:, None], 1.0)
    coefficient, slope = fit_power(x, above, use).T
    exponent = np.clip(-slope, *FALL)
    centre = np.log(x).mean()  # a clipped exponent turns about the middle of the data
    log_scale = centre + (np.log(coefficient) + slope * centre) / exponent
    return np.stack([floors, np.exp(np.clip(log_scale, -600, 600)), exponent], axis=1)


def fit_saturating(x: Array, y: Array, use: Mask) -> Array:
    """Fit y = floor + (scale/x)^exponent, floor ≥ 0, by relative least squares; those three, (batch, 3).

    For a given exponent the rest is linear, so only the exponent is searched: a grid, then narrower grids
    about each member's best. A member needs three points.
    """
    centre = np.exp(np.log(x).mean())
    logs = np.log(x / centre)
    y = np.where(use, y, 1.0)
    weights = use / y**2
    exponents = np.broadcast_to(np.geomspace(*FALL, 48), (len(y), 48))
    ratio = (FALL[1] / FALL[0]) ** (1 / 47)
    while True:
        height, bottom, fall = _linear_part(logs, y, weights, exponents)
        best = np.argmin(height, axis=1)[:, None]
        exponent = np.take_along_axis(exponents, best, axis=1)
        if ratio - 1 < 1e-9:
            break
        exponents = np.clip(exponent * ratio ** np.linspace(-1, 1, 9), *FALL)
        ratio **= 0.25
    bottom, fall = (np.take_along_axis(part, best, axis=1) for part in (bottom, fall))
    laws = np.concatenate([bottom, centre * fall ** (1 / exponent), exponent], axis=1)
    laws[use.sum(axis=1) < 3] = np.nan
    return laws


def _linear_part(logs: Array, y: Array, weights: Array, exponents: Array) -> tuple[Array, Array, Array]:
    """Fit y ≈ bottom + fall·x^−exponent, both ≥ 0, for each member and exponent; also the squared error."""
    shape = np.exp(-exponents[:, :, None] * logs)
    w, wy = weights[:, None, :], (weights * y)[:, None, :]
    s1, sx, sxx = w.sum(axis=2), (w * shape).sum(axis=2), (w * shape * shape).sum(axis=2)
    sy, sxy = wy.sum(axis=2), (wy * shape).sum(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        fall = (s1 * sxy - sx * sy) / (s1 * sxx - sx**2)
        fall = np.where(np.isfinite(fall), np.maximum(fall, 0.0), 0.0)
        bottom = (sy - fall * sx) / s1
        pinned = bottom < 0
        fall = np.where(pinned, sxy / sxx, fall)
    bottom = np.where(pinned, 0.0, bottom)
    error = (weights[:, None, :] * (bottom[..., None] + fall[..., None] * shape - y[:, None, :]) ** 2).sum(axis=2)
    return np.where(np.isfinite(error), error, np.inf), bottom, fall
