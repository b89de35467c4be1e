"""One compute budget: a parabola of the loss in log10 tokens, and where, if anywhere, it has its minimum.

Ordinary least squares of L on 1, x, x² with x = log10 D, as in Llama 3's section 3.2.1 (and approach 2 of
Hoffmann et al. 2022). A parabola without a minimum, or with one outside the grid of models, says so in its
status and yields NaN; nothing falls back on the lowest run. Everything is linear in the losses, so a thousand
resampled copies of a budget cost one matrix product.

Left out: curves other than the parabola.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..forms.law import Array

OK = "ok"
NO_MINIMUM = "no minimum"
BEYOND_SMALLEST = "minimum beyond the smallest model"
BEYOND_LARGEST = "minimum beyond the largest model"
TOO_FEW = "fewer than 3 points"
REMEDIES = {
    NO_MINIMUM: "the parabola does not open upwards above zero; add sizes on both sides, or repeat runs",
    BEYOND_SMALLEST: "train smaller models on more tokens",
    BEYOND_LARGEST: "train larger models on fewer tokens",
    TOO_FEW: "train at least three sizes, better five or more",
}


@dataclass(frozen=True, eq=False)
class Curve:
    """One budget (FLOPs): its runs in order of D, the parabola through them, and its minimum.

    ``coefficients`` are (c0, c1, c2) of L = c0 + c1·x + c2·x², x = log10 D. ``status`` is "ok" or why this
    budget has no usable minimum; ``D_star``, ``N_star`` and ``loss_star`` are then NaN. ``intervals`` maps
    "D", "N" and "loss" to 95 % intervals of the minimum; it is empty where there is no estimate of the noise.
    """

    budget: float
    N: Array
    D: Array
    loss: Array
    coefficients: tuple[float, float, float]
    D_star: float
    N_star: float
    loss_star: float
    status: str
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether the minimum counts towards the laws."""
        return self.status == OK

    def __str__(self) -> str:
        found = f"N* = {self.N_star:.4g}, D* = {self.D_star:.4g}, L* = {self.loss_star:.4f}"
        return f"C = {self.budget:.4g}: {found if self.usable else self.status} ({self.D.size} runs)"


def fit_curve(budget: float, N: Array, D: Array, loss: Array) -> Curve:
    """Fit the parabola of one budget; the arrays have shape (runs,), in any order."""
    order = np.argsort(D)
    curve = Curve(budget, N[order], D[order], loss[order], (np.nan,) * 3, np.nan, np.nan, np.nan, TOO_FEW)
    if np.unique(np.round(np.log10(D), 6)).size < 3:
        return curve
    centre, x, solve = _design(curve.D)
    a, b, c = solve @ curve.loss
    coefficients = float(a - b * centre + c * centre**2), float(b - 2 * c * centre), float(c)
    minimum = minima(curve, curve.loss[None])[0]
    return replace(
        curve,
        coefficients=coefficients,
        D_star=float(minimum[0]),
        N_star=float(minimum[1]),
        loss_star=float(minimum[2]),
        status=_status(x, a, b, c),
    )


def minima(curve: Curve, losses: Array) -> Array:
    """Return D*, N*, L* for each row of losses (batch, runs) put on the curve's grid: shape (batch, 3).

    A row whose parabola has no minimum inside the grid gives NaN. N* is read off the straight line of log N
    on log D, which at C = 6ND is exactly C/6D and otherwise keeps the runs' own convention.
    """
    centre, x, solve = _design(curve.D)
    a, b, c = solve @ losses.T
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = -b / (2 * c)
        inside = (c > 0) & (vertex >= x[0]) & (vertex <= x[-1]) & (a + b * vertex / 2 > 0)
        vertex = np.where(inside, vertex, np.nan)
    slope, level = np.polyfit(x, np.log10(curve.N), 1)
    return np.stack([10 ** (centre + vertex), 10 ** (level + slope * vertex), a + b * vertex / 2], axis=1)


def free_residuals(curve: Curve) -> tuple[Array, int]:
    """Return the parabola's relative residuals divided by √(1 − leverage), and their degrees of freedom.

    The division gives every residual the variance of the noise; a run that the parabola must pass through
    (leverage 1) says nothing of it and is left out.
    """
    if curve.status == TOO_FEW:
        return np.empty(0), 0
    fitted = fitted_losses(curve)
    _, x, solve = _design(curve.D)
    room = 1 - np.einsum("np,pn->n", np.vander(x, 3, increasing=True), solve)
    free = room > 1e-6
    return ((curve.loss - fitted) / fitted)[free] / np.sqrt(room[free]), curve.D.size - 3


def off_centre(curve: Curve) -> float:
    """How far the minimum lies from the middle of its grid in log D, −1 at the largest model and 1 at the smallest.

    A parabola is the expansion of a curve about its minimum; on a grid that lies to one side it is read where it does
    not hold. NaN for a curve without a usable minimum.
    """
    if not curve.usable:
        return np.nan
    low, high = np.log(curve.D[[0, -1]])
    return float((2 * np.log(curve.D_star) - low - high) / (high - low))


def lopsided(curve: Curve) -> tuple[float, float]:
    """Return what a cubic would make of D* (a factor), and how many normal deviations its cubic term lies from zero.

    NaN below six runs, which leave a cubic too little to be judged by.
    """
    if not curve.usable or curve.D.size < 6:
        return np.nan, np.nan
    centre, x, _ = _design(curve.D)
    columns = np.vander(x, 4, increasing=True)
    c = np.linalg.lstsq(columns, curve.loss, rcond=None)[0]
    residual = curve.loss - columns @ c
    variance = residual @ residual / max(curve.D.size - 4, 1) * np.linalg.inv(columns.T @ columns)[3, 3]
    under = c[2] ** 2 - 3 * c[1] * c[3]
    if under < 0:
        return np.nan, np.nan
    turn = -c[1] / (c[2] + np.sqrt(under))  # the root with positive curvature, in the form that survives c3 = 0
    freedom, t2 = curve.D.size - 4, c[3] ** 2 / max(variance, 1e-300)
    # Student's t as a normal deviation (Wallace 1959), good to a hundredth here.
    deviations = (8 * freedom + 1) / (8 * freedom + 3) * np.sqrt(freedom * np.log1p(t2 / freedom))
    return float(10 ** (centre + turn) / curve.D_star), float(deviations)


def fitted_losses(curve: Curve) -> Array:
    """Return the parabola's values at the curve's own runs."""
    _, x, solve = _design(curve.D)
    return np.asarray(np.vander(x, 3, increasing=True) @ (solve @ curve.loss))


def _design(D: Array) -> tuple[float, Array, Array]:
    """Return the mean of log10 D, log10 D less it, and the matrix (3, runs) from losses to coefficients."""
    logs = np.log10(D)
    centre = float(logs.mean())
    x = logs - centre
    solve: Array = np.linalg.pinv(np.vander(x, 3, increasing=True)).astype(np.float64)
    return centre, x, solve


def _status(x: Array, a: float, b: float, c: float) -> str:
    if c <= 0 or a + b * (-b / (2 * c)) / 2 <= 0:
        return NO_MINIMUM
    vertex = -b / (2 * c)
    if vertex > x[-1]:
        return BEYOND_SMALLEST
    return BEYOND_LARGEST if vertex < x[0] else OK
