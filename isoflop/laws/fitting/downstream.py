"""Carry the doubt of a task's loss into its score: the two steps from scale to a benchmark, with intervals.

The first step is any fit of the task's loss to scale: a surface of (N, D), a law of C, or Llama 3's line in log C,
which is fitted here. The second is :func:`~.score.fit_score`. Replicate i of the chain reads the score that
replicate i of the second step gives to the loss of replicate i of the first, so its intervals hold both doubts;
one measurement adds the noise of a run's loss and that of its score.

In 60 simulated ladders (16 runs, losses to .4 %, scores to .8 points, a target of ten times the largest run's compute)
95 % intervals held the true score 57 times, a new run's 56 times. Of the eight scores that OLMo's ladder predicts,
they held six: they know of noise, not of a law that does not hold (:mod:`isoflop.laws.reproduction.olmo`).

Cost: that of the two fits; a prediction takes under a millisecond.

Left out: the correlation between the two steps of one run, and doubt about the forms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from ..forms.downstream import LogLinear, ScoreLaw, Sigmoid, TwoStep
from ..forms.law import Array, Law
from ..forms.surface import LossSurface
from .columns import positive_columns
from .prediction import Prediction, check_replicates, prediction
from .score import CLEAR, ScoreFit, fit_score, replicated


class LossFit(Protocol):
    """What the chain asks of its first step: a law, and draws of its mean and of one run's loss at a scale."""

    @property
    def law(self) -> Law:
        """The law."""

    @property
    def draws(self) -> Array:
        """Bootstrap parameters, one row a replicate."""

    @property
    def statuses(self) -> tuple[str, ...]:
        """Sentences about soft trouble."""

    def draw_means(self, *args: Any, **kwargs: Any) -> Array:
        """Draw the mean loss, ``draw_means(*scale)``; shape (replicates,)."""

    def draw_losses(self, *args: Any, **kwargs: Any) -> Array:
        """Draw the loss of one run, ``draw_losses(*scale, seed=...)``; shape (replicates,)."""


@dataclass(frozen=True, eq=False)
class TwoStepFit:
    """The fits of both steps, with the same number of replicates."""

    first: LossFit
    second: ScoreFit
    seed: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        if len(self.first.draws) != len(self.second.draws):
            one, two = len(self.first.draws), len(self.second.draws)
            raise ValueError(f"the first step has {one} replicates and the second {two}; fit both with the same number")

    @property
    def law(self) -> TwoStep:
        """The chained law."""
        return TwoStep(self.first.law, self.second.law)

    @property
    def statuses(self) -> tuple[str, ...]:
        """The statuses of both steps."""
        named = (("task loss", self.first.statuses), ("score", self.second.statuses))
        return tuple(f"{step}: {status}" for step, statuses in named for status in statuses)

    def predict(self, *scale: float, level: float = 0.95) -> Prediction:
        """Predict the score: ``predict(N, D)``, or ``predict(C)`` (a surface spends C at its own optimum).

        Raises ValueError when the fits have no replicates.
        """
        value, point = self.law.predict(*scale), self._point(*scale)
        means = self.second.draw_means(self.first.draw_means(*point))
        outcomes = self.second.draw_scores(self.first.draw_losses(*point, seed=self.seed), self.seed)
        return prediction(value, means, outcomes, level)

    def statuses_at(self, *scale: float) -> tuple[str, ...]:
        """Say what the prediction at a scale rests on beyond the data of the second step."""
        loss = self.law.loss(*scale)
        least, most = self.second.losses
        if least <= loss <= most:
            return ()
        side, end = ("below", least) if loss < least else ("above", most)
        return (f"the task's loss there, {loss:.4g}, is {side} every point's ({end:.4g}): its score is extrapolated",)

    def _point(self, *scale: float) -> tuple[float, ...]:
        law = self.first.law
        if isinstance(law, LossSurface) and len(scale) == 1:
            best = law.optimal(scale[0])
            return best.N, best.D
        return scale


def fit_two_step(
    first: LossFit,
    losses: ArrayLike,
    scores: ArrayLike,
    form: type[ScoreLaw] = Sigmoid,
    *,
    groups: ArrayLike | None = None,
    chance: float | None = None,
    seed: int = 0,
) -> TwoStepFit:
    """Fit the second step to points and chain it to a fitted first.

        >>> task = fit({"N": N, "D": D, "loss": task_losses}, replicates=1000)
        >>> fit_two_step(task, losses, scores, groups=runs).predict(7e9, 2e12)

    ``losses`` and ``scores`` are the points of the second step, shape (points,): the same runs, their checkpoints,
    other models. ``form``, ``groups``, ``chance`` and errors are those of :func:`~.score.fit_score`, which refits as
    many replicates as the first step has.
    """
    replicates = len(first.draws)
    second = fit_score(losses, scores, form, groups=groups, chance=chance, replicates=replicates, seed=seed)
    return TwoStepFit(first, second, seed)


@dataclass(frozen=True, eq=False)
class LogLinearFit:
    """A fitted line L = a + b·log10 C, with draws (replicates, 2) of a, b, and statuses as in ScoreFit."""

    law: LogLinear
    residual_sd: float
    draws: Array
    statuses: tuple[str, ...]
    freedom: int = field(repr=False)
    seed: int = field(repr=False)

    def predict(self, C: float, level: float = 0.95) -> Prediction:
        """Predict the loss at C FLOPs. Raises ValueError when the fit has no replicates."""
        return prediction(self.law(C), self.draw_means(C), self.draw_losses(C, seed=self.seed), level)

    def draw_means(self, C: float) -> Array:
        """Draw the mean loss at C, shape (replicates,)."""
        a, b = replicated(self.draws).T
        return np.asarray(a + b * np.log10(C))

    def draw_losses(self, C: float, seed: int = 0) -> Array:
        """Draw the loss of one run at C, with its noise (of that seed); shape (replicates,)."""
        noise = np.random.default_rng([seed, 1]).standard_t(self.freedom, len(self.draws))
        return self.draw_means(C) + self.residual_sd * noise


def fit_log_linear(C: ArrayLike, loss: ArrayLike, *, replicates: int = 0, seed: int = 0) -> LogLinearFit:
    """Fit L = a + b·log10 C by least squares, for C in FLOPs and the loss, each of shape (runs,).

    Draws are those of a line with normal noise of unknown size, exactly. Raises ValueError for fewer than three
    runs or one C, for columns that differ in length and for values that are not positive.
    """
    flops, y = positive_columns(C=C, loss=loss)
    check_replicates(replicates)
    x = np.log10(flops)
    if x.size < 3 or np.ptp(x) < 1e-6:
        raise ValueError(f"{x.size} runs, {np.unique(x).size} different C: a line and its noise take three runs, two C")
    centre, spread = x.mean(), np.sum((x - x.mean()) ** 2)
    slope = float((x - centre) @ y / spread)
    residuals = y - y.mean() - slope * (x - centre)
    freedom = x.size - 2
    sd = float(np.sqrt(residuals @ residuals / freedom))
    rng = np.random.default_rng([seed, 0])
    sds = sd * np.sqrt(freedom / rng.chisquare(freedom, replicates))
    slopes = slope + sds * rng.standard_normal(replicates) / np.sqrt(spread)
    levels = y.mean() + sds * rng.standard_normal(replicates) / np.sqrt(x.size)
    draws = np.stack([levels - slopes * centre, slopes], axis=1)
    law = LogLinear(float(y.mean() - slope * centre), slope)
    return LogLinearFit(law, sd, draws, tuple(_line_statuses(x - centre, residuals, slope)), freedom, seed)


def _line_statuses(x: Array, residuals: Array, slope: float) -> list[str]:
    said = []
    if slope >= 0:
        said.append("wrong way: the loss does not fall with compute")
    bend = x**2 - np.mean(x**2) - x * np.mean(x**3) / np.mean(x**2)
    if x.size > 3 and bend @ bend > 1e-12:
        curvature = bend @ residuals / (bend @ bend)
        left = residuals - curvature * bend
        if abs(curvature) > CLEAR * np.sqrt(left @ left / (x.size - 3) / (bend @ bend)):
            said.append("the losses bend away from a line in log C: far beyond them it is not to be trusted")
    return said
