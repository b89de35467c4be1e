"""From scale to a benchmark's score in two steps: the laws of its loss and of its score.

A score moves in jumps and saturates; the loss of a task's correct answers (nats or bits, per character, byte or
token, whichever both steps share) falls smoothly with scale. So one law gives the loss of a scale and a second
the score of a loss, and :class:`TwoStep` chains them (Llama 3, section 3.2.1; Bhagia et al. 2024). The first
law is a surface L(N, D) or a curve L(C): Llama 3's line in log C, or a power law. Scores are shares between 0
and 1. Every question has a closed answer, except what a surface without one is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from ..library import published
from .chinchilla import Chinchilla
from .law import BLANK, Law, Values
from .surface import LossSurface


class ScoreLaw(Law):
    """The score of a task whose loss is L. Subclasses give ``score``, ``slope`` and ``inverse``."""

    @staticmethod
    def score(loss: Values, *parameters: Values) -> Values:
        """Evaluate the form; parameters are in the order of its fields and broadcast with the loss."""
        raise NotImplementedError

    def __call__(self, loss: ArrayLike) -> Values:
        """Evaluate the score at a loss."""
        return self.score(np.asarray(loss, float), *self.parameters().values())

    def slope(self, loss: ArrayLike) -> Values:
        """Give d score / dL."""
        raise NotImplementedError

    def inverse(self, score: ArrayLike) -> Values:
        """Give the loss at which the task has this score; NaN where no loss gives it."""
        raise NotImplementedError


@dataclass(frozen=True, repr=False)
class Sigmoid(ScoreLaw, kind="sigmoid"):
    """score = a / (1 + exp(−k·(L − L0))) + b, with a < 0 < k for a score that falls with the loss.

    b is the score at a loss far below L0, a + b the one far above, about the score of guessing. Source: Bhagia
    et al. 2024, "Establishing Task Scaling Laws via Compute-Efficient Model Ladders", step 2.
    """

    a: float = BLANK
    k: float = BLANK
    L0: float = BLANK
    b: float = BLANK
    formula = "score = {a} / (1 + exp(-{k}·(L - {L0}))) + {b}"

    @staticmethod
    def score(loss: Values, *parameters: Values) -> Values:
        """Evaluate the form at a, k, L0, b."""
        a, k, L0, b = parameters
        return a * logistic(k * (loss - L0)) + b

    def slope(self, loss: ArrayLike) -> Values:
        """Give d score / dL."""
        share = logistic(self.k * (np.asarray(loss, float) - self.L0))
        return self.a * self.k * share * (1 - share)

    def inverse(self, score: ArrayLike) -> Values:
        """Give the loss at which the task has this score; NaN at the two ends and beyond."""
        share = (np.asarray(score, float) - self.b) / self.a
        inside = (share > 0) & (share < 1)
        share = np.where(inside, share, 0.5)
        return np.where(inside, self.L0 + np.log(share / (1 - share)) / self.k, np.nan)[()]


@dataclass(frozen=True, repr=False)
class LogSigmoid(ScoreLaw, kind="log-sigmoid"):
    """score = 1 − a·log(1 − 1 / (1 + exp(−k·(L − L0)))), with a < 0 < k for a score that falls with the loss.

    A perfect score at low loss, a straight fall of slope a·k at high loss, and the bend between them at L0.
    Source: the variant of Bhagia et al. 2024 for a loss that compares the answers with each other (the negative
    log of the correct one's probability among the choices).
    """

    a: float = BLANK
    k: float = BLANK
    L0: float = BLANK
    formula = "score = 1 - {a}·log(1 - 1 / (1 + exp(-{k}·(L - {L0}))))"

    @staticmethod
    def score(loss: Values, *parameters: Values) -> Values:
        """Evaluate the form at a, k, L0."""
        a, k, L0 = parameters
        return 1 + a * np.logaddexp(0, k * (loss - L0))  # −log(1 − logistic(z)) = log(1 + eᶻ)

    def slope(self, loss: ArrayLike) -> Values:
        """Give d score / dL."""
        return self.a * self.k * logistic(self.k * (np.asarray(loss, float) - self.L0))

    def inverse(self, score: ArrayLike) -> Values:
        """Give the loss at which the task has this score; NaN at a perfect score and beyond."""
        fall = (np.asarray(score, float) - 1) / self.a
        inside = fall > 0
        fall = np.where(inside, fall, 1.0)
        return np.where(inside, self.L0 + (fall + np.log(-np.expm1(-fall))) / self.k, np.nan)[()]


@dataclass(frozen=True, repr=False)
class ExponentialError(ScoreLaw, kind="exponential-error"):
    """error = ε − k·exp(−γ·L): a score of which less is better, with ε the error of an untrained model.

    Source: Gadre et al. 2024, "Language models scale reliably with over-training and on downstream tasks",
    equation 5, for the error averaged over tasks and the loss on C4.
    """

    epsilon: float = BLANK
    k: float = BLANK
    gamma: float = BLANK
    formula = "error = {epsilon} - {k}·exp(-{gamma}·L)"

    @staticmethod
    def score(loss: Values, *parameters: Values) -> Values:
        """Evaluate the form at ε, k, γ."""
        epsilon, k, gamma = parameters
        return epsilon - k * np.exp(-gamma * loss)

    def slope(self, loss: ArrayLike) -> Values:
        """Give d error / dL."""
        return self.k * self.gamma * np.exp(-self.gamma * np.asarray(loss, float))

    def inverse(self, score: ArrayLike) -> Values:
        """Give the loss at which the task has this error; NaN at ε and above."""
        share = (self.epsilon - np.asarray(score, float)) / self.k
        inside = share > 0
        return np.where(inside, -np.log(np.where(inside, share, 1.0)) / self.gamma, np.nan)[()]


@dataclass(frozen=True, repr=False)
class LogLinear(Law, kind="log-linear"):
    """L = a + b·log10 C, with C in FLOPs and b < 0: a task's loss over two or three decades of compute.

    It has no floor, so it holds in a range of C and not at the end of all scaling. Source: Grattafiori et al.
    2024, "The Llama 3 Herd of Models", section 3.2.1.
    """

    a: float = BLANK
    b: float = BLANK
    formula = "L = {a} + {b}·log10 C"

    def __call__(self, C: ArrayLike) -> Values:
        """Evaluate the loss at C FLOPs."""
        return self.a + self.b * np.log10(np.asarray(C, float))

    def slope(self, C: ArrayLike) -> Values:
        """Give dL/dC."""
        return self.b / (np.log(10) * np.asarray(C, float))

    def inverse(self, loss: ArrayLike) -> Values:
        """Give the FLOPs that reach the loss."""
        return 10 ** ((np.asarray(loss, float) - self.a) / self.b)


@runtime_checkable
class LossCurve(Protocol):
    """What a law of one variable offers the first step: the loss at C, and the C of a loss (inf: none)."""

    def __call__(self, C: ArrayLike, /) -> Values:
        """Evaluate the loss at C FLOPs."""

    def inverse(self, loss: ArrayLike, /) -> Values:
        """Give the FLOPs that reach the loss."""


@dataclass(frozen=True, repr=False)
class TwoStep(Law, kind="two-step"):
    """The score of a scale: ``first`` gives the task's loss of (N, D) or of C, ``second`` the score of that loss.

    ``first`` is a surface or a law of one variable (:class:`LossCurve`) and its C is whatever C it was fitted
    to. Its parameters are those of both laws, named "first.E" and so on; JSON nests the two.
    """

    first: Law = field(default_factory=Chinchilla)
    second: ScoreLaw = field(default_factory=Sigmoid)
    formula = "{second} with {first}"

    def __post_init__(self) -> None:
        if isinstance(self.first, ScoreLaw) or not isinstance(self.first, LossSurface | LossCurve):
            raise ValueError(f"the first step must give a loss of (N, D) or of C; {self.first!r} does not")
        if not isinstance(self.second, ScoreLaw):
            raise ValueError(f"the second step must give a score of a loss; {self.second!r} does not")

    def parameters(self) -> dict[str, float]:
        """Give the numbers of both laws, by names such as "first.E"."""
        steps = {"first": self.first, "second": self.second}
        return {f"{step}.{name}": value for step, law in steps.items() for name, value in law.parameters().items()}

    def __str__(self) -> str:
        return self.formula.format(first=self.first, second=self.second)

    def loss(self, *scale: float) -> float:
        """Give the task's loss: ``loss(N, D)``, or ``loss(C)`` for C FLOPs.

        A surface spends C compute-optimally, C = 6ND. Raises ValueError where the first law has no such answer.
        """
        match self.first, scale:
            case LossSurface() as surface, (N, D):
                return float(surface.loss(N, D))
            case LossSurface() as surface, (C,):
                return surface.optimal(C).loss
            case LossCurve() as curve, (C,):
                return float(curve(C))
        raise ValueError(f"{self.first!r} takes (N, D) if it is a surface, or (C); not {len(scale)} numbers")

    def predict(self, *scale: float) -> float:
        """Give the score at a scale: ``predict(N, D)``, or ``predict(C)`` as in :meth:`loss`."""
        return float(self.second(self.loss(*scale)))

    def compute_for(self, score: float) -> float:
        """Give the least C, in FLOPs, that reaches the score.

        Raises ValueError when no loss has that score, or when no budget reaches the loss that has.
        """
        loss = float(self.second.inverse(score))
        if np.isnan(loss):
            raise ValueError(f"no loss gives a score of {score}: {self.second} does not reach it")
        if isinstance(self.first, LossSurface):
            return self.first.cheapest(loss).C
        assert isinstance(self.first, LossCurve)
        C = float(self.first.inverse(loss))
        if not np.isfinite(C):
            raise ValueError(f"no budget reaches a score of {score}: {self.first} does not fall to {loss:.6g}")
        return C

    def to_json(self) -> dict[str, object]:
        """Give a dict that ``json`` can write; raises ValueError for blanks in either law."""
        return {"kind": self.kind, "first": self.first.to_json(), "second": self.second.to_json()}

    @classmethod
    def read_parameters(cls, data: Mapping[str, object]) -> Self:
        """Read the two laws from the two dicts of their own JSON."""
        first, second = data.get("first"), data.get("second")
        if set(data) != {"kind", "first", "second"} or not isinstance(first, dict) or not isinstance(second, dict):
            given = ", ".join(sorted(set(data) - {"kind"})) or "nothing"
            raise ValueError(f"a {cls.kind} law has two laws, first and second; the data has {given}")
        return cls(Law.from_json(first), ScoreLaw.from_json(second))


def logistic(z: Values) -> Values:
    """Evaluate 1 / (1 + exp(−z)), without overflow and to full precision at both ends."""
    return np.exp(-np.logaddexp(0, -z))


OLMO_LADDER_MMLU = published(
    "OLMO_LADDER_MMLU",
    TwoStep(
        Chinchilla(E=0.454093, A=38.0700, alpha=0.226216, B=100.092, beta=0.236076),
        Sigmoid(a=-0.742064, k=4.83338, L0=0.615952, b=1.0),
    ),
    source="Bhagia et al. 2024, arXiv 2412.04403, recomputed from its data (isoflop.laws.reproduction.olmo)",
    meaning="N without the input embedding, D in tokens, loss in bits per byte of MMLU's correct answers (5-shot), "
    "score the accuracy by length-normalised likelihood of the answers' text",
    verified=True,
    note="from 190M to 1.3B parameters it gives OLMo 2 13B .513 where .516 was measured; b is at its bound, not seen",
)
