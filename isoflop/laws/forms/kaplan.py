"""The laws of Kaplan et al. 2020: loss over size and data, loss over size and steps, and the critical batch.

Everything has a closed answer. N leaves embeddings out, which bends these laws at small sizes (see
:mod:`.counting`), and the learning rate schedules were not matched to each run's length; the budgets that the
paper would spend on huge models trained briefly follow from both. Constants in PF-days are converted to FLOPs here.
The numbers were taken from texts about the paper that agree with one another, not read in it. Left out: the laws of
other data sets, of recurrent networks and of position in the context.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..library import published
from .distillation import PoweredSum
from .law import BLANK, Law, Values, positive
from .power import PowerLaw, SaturatingPowerLaw
from .surface import Allocation, LossSurface

PF_DAY = 8.64e19  # FLOPs: 1e15 a second for a day


@dataclass(frozen=True, repr=False)
class KaplanSurface(LossSurface, kind="kaplan"):
    """L(N, D) = [(Nc/N)^(αN/αD) + Dc/D]^αD, in nats per token.

    Made so that either limit is a pure power law and that overfitting falls as 1/D; there is no floor. Source: Kaplan
    et al. 2020, "Scaling Laws for Neural Language Models", equation 1.5.
    """

    Nc: float = BLANK
    alpha_N: float = BLANK
    Dc: float = BLANK
    alpha_D: float = BLANK
    formula = "L = [({Nc}/N)^({alpha_N}/{alpha_D}) + {Dc}/D]^{alpha_D}"

    def powered_sum(self) -> PoweredSum:
        """Give the equal powered sum: E = 0, β = 1 and γ = αD."""
        ratio = self.alpha_N / self.alpha_D
        return PoweredSum(E=0.0, A=self.Nc**ratio, alpha=ratio, B=self.Dc, beta=1.0, gamma=self.alpha_D)

    def loss(self, N: ArrayLike, D: ArrayLike) -> Values:
        """Evaluate the loss of N parameters trained on D tokens, stopped early; N and D broadcast."""
        return self.powered_sum().loss(N, D)

    def slopes(self, N: ArrayLike, D: ArrayLike) -> tuple[Values, Values]:
        """Give ∂L/∂N and ∂L/∂D."""
        return self.powered_sum().slopes(N, D)

    def optimal(self, C: float) -> Allocation:
        """Spend C FLOPs for the lowest loss, under C = 6ND."""
        return self.powered_sum().optimal(C)

    def tokens_for(self, loss: float, N: float) -> float:
        """Tokens on which N parameters reach ``loss``; infinite where no number of tokens is enough."""
        return self.powered_sum().tokens_for(loss, N)

    def params_for(self, loss: float, D: float) -> float:
        """Parameters that reach ``loss`` on D tokens; infinite where no size is enough."""
        return self.powered_sum().params_for(loss, D)

    def cheapest(self, loss: float) -> Allocation:
        """Reach ``loss`` with the least compute. Raises ValueError for a loss that is not positive."""
        return self.powered_sum().cheapest(loss)


@dataclass(frozen=True, repr=False)
class KaplanSteps(Law, kind="kaplan-steps"):
    """L(N, S) = (Nc/N)^αN + (Sc/S)^αS, in nats per token: a training curve on unlimited data.

    S counts updates at a batch far above the critical one. Source: Kaplan et al. 2020, equation 1.6.
    """

    Nc: float = BLANK
    alpha_N: float = BLANK
    Sc: float = BLANK
    alpha_S: float = BLANK
    formula = "L = ({Nc}/N)^{alpha_N} + ({Sc}/S)^{alpha_S}"

    def loss(self, N: ArrayLike, S: ArrayLike) -> Values:
        """Evaluate the loss of N parameters after S updates; N and S broadcast."""
        n, s = np.asarray(N, float), np.asarray(S, float)
        return (self.Nc / n) ** self.alpha_N + (self.Sc / s) ** self.alpha_S

    def slopes(self, N: ArrayLike, S: ArrayLike) -> tuple[Values, Values]:
        """Give ∂L/∂N and ∂L/∂S."""
        n, s = np.asarray(N, float), np.asarray(S, float)
        return -self.alpha_N * (self.Nc / n) ** self.alpha_N / n, -self.alpha_S * (self.Sc / s) ** self.alpha_S / s

    def steps_for(self, loss: float, N: float) -> float:
        """Updates after which N parameters reach ``loss``; infinite where none are enough."""
        at_convergence = SaturatingPowerLaw(floor=0.0, scale=self.Nc, exponent=self.alpha_N)(positive("N", N))
        return float(SaturatingPowerLaw(floor=at_convergence, scale=self.Sc, exponent=self.alpha_S).inverse(loss))


@dataclass(frozen=True)
class TradeOff:
    """Updates against tokens on the way to one loss: (S/S_min − 1)(E/E_min − 1) = 1.

    ``least_steps`` is S_min, which an unlimited batch needs, ``least_tokens`` E_min, which a vanishing one does.
    Source: McCandlish et al. 2018, "An Empirical Model of Large-Batch Training".
    """

    least_steps: float
    least_tokens: float

    @property
    def critical_batch(self) -> float:
        """The batch in tokens, E_min/S_min, at which both costs are twice their least."""
        return self.least_tokens / self.least_steps

    def steps(self, batch: ArrayLike) -> Values:
        """Updates at a batch of so many tokens."""
        return self.least_steps * (1 + self.critical_batch / np.asarray(batch, float))

    def tokens(self, batch: ArrayLike) -> Values:
        """Tokens seen at a batch of so many tokens: compute in proportion."""
        return self.least_tokens * (1 + np.asarray(batch, float) / self.critical_batch)


@dataclass(frozen=True, repr=False)
class CriticalBatch(Law, kind="critical-batch"):
    """B_crit(L) = scale / L^(1/αB), in tokens: it grows as the loss falls and does not depend on the model's size.

    Source: Kaplan et al. 2020, equation 1.4, where ``scale`` is B*.
    """

    scale: float = BLANK
    alpha_B: float = BLANK
    formula = "B_crit = {scale} / L^(1/{alpha_B})"

    def batch(self, loss: ArrayLike) -> Values:
        """Give the critical batch in tokens at ``loss``."""
        return self.scale * np.asarray(loss, float) ** (-1 / self.alpha_B)

    def loss(self, batch: ArrayLike) -> Values:
        """Give the loss at which a batch of so many tokens is critical."""
        return (self.scale / np.asarray(batch, float)) ** self.alpha_B

    def trade_off(self, loss: float, least_steps: float) -> TradeOff:
        """Trade updates for tokens on the way to ``loss``, which an unlimited batch reaches in ``least_steps``."""
        positive("the loss and the number of steps", [loss, least_steps])
        return TradeOff(least_steps, least_steps * float(self.batch(loss)))


_SOURCE = "Kaplan et al. 2020, arXiv 2001.08361"
_SEEN = "from secondary texts"

KAPLAN_2020 = published(
    "KAPLAN_2020",
    KaplanSurface(Nc=6.4e13, alpha_N=0.076, Dc=1.8e13, alpha_D=0.103),
    source=f"{_SOURCE}, table 2",
    meaning="N without embeddings, D unique tokens with early stopping, loss on WebText2",
    counts="body",
    verified=False,
    note=f"{_SEEN}; the joint fit, whose exponents differ from those of the laws of N and D alone",
)

KAPLAN_2020_LOSS_OF_N = published(
    "KAPLAN_2020_LOSS_OF_N",
    SaturatingPowerLaw(floor=0.0, scale=8.8e13, exponent=0.076),
    source=f"{_SOURCE}, equation 1.1",
    meaning="loss on WebText2 of N parameters without embeddings, trained to convergence on enough data",
    verified=False,
    note=_SEEN,
)

KAPLAN_2020_LOSS_OF_D = published(
    "KAPLAN_2020_LOSS_OF_D",
    SaturatingPowerLaw(floor=0.0, scale=5.4e13, exponent=0.095),
    source=f"{_SOURCE}, equation 1.2",
    meaning="loss on WebText2 of a large model trained on D tokens with early stopping",
    verified=False,
    note=_SEEN,
)

KAPLAN_2020_LOSS_OF_C = published(
    "KAPLAN_2020_LOSS_OF_C",
    SaturatingPowerLaw(floor=0.0, scale=3.1e8 * PF_DAY, exponent=0.050),
    source=f"{_SOURCE}, equation 1.3",
    meaning="loss on WebText2 for C FLOPs = 6ND, N without embeddings, at the best size and a vanishing batch",
    verified=False,
    note=f"{_SEEN}; 3.1e8 PF-days there",
)

KAPLAN_2020_STEPS = published(
    "KAPLAN_2020_STEPS",
    KaplanSteps(Nc=6.5e13, alpha_N=0.077, Sc=2.1e3, alpha_S=0.76),
    source=f"{_SOURCE}, table 3",
    meaning="N without embeddings, S updates at an unlimited batch on unlimited data, loss on WebText2",
    verified=False,
    note=_SEEN,
)

KAPLAN_2020_CRITICAL_BATCH = published(
    "KAPLAN_2020_CRITICAL_BATCH",
    CriticalBatch(scale=2.1e8, alpha_B=0.21),
    source=f"{_SOURCE}, equation 1.4",
    meaning="critical batch in tokens at a loss on WebText2",
    verified=False,
    note=f"{_SEEN}; the equation rounds the scale to 2e8",
)

KAPLAN_2020_ENOUGH_DATA = published(
    "KAPLAN_2020_ENOUGH_DATA",
    PowerLaw(coefficient=5e3, exponent=0.74),
    source=f"{_SOURCE}, equation 4.4",
    meaning="x = N without embeddings, y = unique tokens that keep overfitting below 2% of the loss",
    verified=False,
    note=f"{_SEEN}; rounded",
)

KAPLAN_2020_SIZE = published(
    "KAPLAN_2020_SIZE",
    PowerLaw(coefficient=1.3e9 / PF_DAY**0.73, exponent=0.73),
    source=f"{_SOURCE}, table 6",
    meaning="x = least compute in FLOPs (6ND at a vanishing batch), y = best N without embeddings",
    verified=False,
    note=f"{_SEEN}; 1.3e9 at one PF-day. Chinchilla's exponent is .5: do not plan with this one",
)

KAPLAN_2020_BATCH = published(
    "KAPLAN_2020_BATCH",
    PowerLaw(coefficient=2.0e6 / PF_DAY**0.24, exponent=0.24),
    source=f"{_SOURCE}, table 6",
    meaning="x = least compute in FLOPs (6ND at a vanishing batch), y = critical batch in tokens at its end",
    verified=False,
    note=f"{_SEEN}; 2.0e6 at one PF-day",
)

KAPLAN_2020_UPDATES = published(
    "KAPLAN_2020_UPDATES",
    PowerLaw(coefficient=5.4e3 / PF_DAY**0.03, exponent=0.03),
    source=f"{_SOURCE}, table 6",
    meaning="x = least compute in FLOPs (6ND at a vanishing batch), y = least updates, those of an unlimited batch",
    verified=False,
    note=f"{_SEEN}; 5.4e3 at one PF-day",
)

KAPLAN_2020_TOKENS = published(
    "KAPLAN_2020_TOKENS",
    PowerLaw(coefficient=2e10 / PF_DAY**0.27, exponent=0.27),
    source=f"{_SOURCE}, table 6",
    meaning="x = least compute in FLOPs (6ND at a vanishing batch), y = tokens seen at the critical batch, one epoch",
    verified=False,
    note=f"{_SEEN}; 2e10 at one PF-day",
)
