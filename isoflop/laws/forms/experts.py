"""The mixture-of-experts law of Clark et al. 2022: the loss of routed models in their size and number of experts.

Left out: the paper's second form, over FLOPs and parameter utilisation, which also covers the number of experts a
token visits and the share of routed layers. The law has no D: its runs all saw 130 billion tokens.
:mod:`isoflop.laws.reproduction.routing` fits it to the released curves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..library import published
from .law import BLANK, Law, Values, positive


@dataclass(frozen=True, repr=False)
class RoutingLaw(Law, kind="routing"):
    """log10 L = a·log10 n + b·log10 ê + c·log10 n·log10 ê + d, with L in nats per token.

    n is the number of parameters that one token meets (that of the dense model before its layers were multiplied),
    e the number of experts, and ê the number saturated at both ends: e_start at one expert, e_max at infinitely many,
    1/ê = 1/(e - 1 + 1/(1/e_start - 1/e_max)) + 1/e_max. With c > 0 experts help less the larger the model, and not at
    all from ``cutoff`` on. Source: Clark et al. 2022, "Unified Scaling Laws for Routed Language Models", equation 1.
    """

    a: float = BLANK
    b: float = BLANK
    c: float = BLANK
    d: float = BLANK
    e_start: float = BLANK
    e_max: float = BLANK
    formula = (
        "log10 L = {a}·log10 n + {b}·log10 ê + {c}·log10 n·log10 ê + {d}, "
        "1/ê = 1/(e - 1 + 1/(1/{e_start} - 1/{e_max})) + 1/{e_max}"
    )

    def loss(self, n: ArrayLike, e: ArrayLike) -> Values:
        """Evaluate the loss of models of n parameters per token with e experts; n and e broadcast."""
        log_n, log_e = np.log10(positive("n", n)), np.log10(self.saturated(e))
        return 10 ** (self.a * log_n + self.b * log_e + self.c * log_n * log_e + self.d)

    def slopes(self, n: ArrayLike, e: ArrayLike) -> tuple[Values, Values]:
        """Give ∂L/∂n and ∂L/∂e."""
        n, e = np.asarray(n, float), np.asarray(e, float)
        loss, saturated = self.loss(n, e), self.saturated(e)
        growth = saturated / (e - 1 + self._offset) ** 2  # d log ê / de
        by_size = loss / n * (self.a + self.c * np.log10(saturated))
        return by_size, loss * growth * (self.b + self.c * np.log10(n))

    def saturated(self, e: ArrayLike) -> Values:
        """Give ê, which runs from e_start at e = 1 to e_max. Raises ValueError for fewer than one expert."""
        experts = positive("e", e)
        if np.any(experts < 1):
            raise ValueError(f"e is {e!r}: a model has at least one expert")
        return 1 / (1 / (experts - 1 + self._offset) + 1 / self.e_max)

    def effective_params(self, n: ArrayLike, e: ArrayLike) -> Values:
        """Give the size of the dense model (e = 1) that has the loss of n parameters with e experts."""
        return self.params_for(self.loss(n, e), 1)

    def params_for(self, loss: ArrayLike, e: ArrayLike) -> Values:
        """Parameters per token with which e experts reach ``loss``."""
        log_e = np.log10(self.saturated(e))
        return 10 ** ((np.log10(positive("loss", loss)) - self.d - self.b * log_e) / (self.a + self.c * log_e))

    def experts_for(self, loss: ArrayLike, n: ArrayLike) -> Values:
        """Experts with which n parameters per token reach ``loss``: 1 where a dense model does, ∞ where none do."""
        log_n = np.log10(positive("n", n))
        log_loss = np.log10(positive("loss", loss))
        help_per_decade = self.b + self.c * log_n
        with np.errstate(divide="ignore", over="ignore"):
            wanted = 10 ** ((log_loss - self.d - self.a * log_n) / help_per_decade)
            experts = 1 - self._offset + 1 / (1 / wanted - 1 / self.e_max)
        enough = np.where(wanted < self.e_max, np.maximum(experts, 1), np.inf)
        dense_enough = log_loss >= np.log10(self.loss(n, 1))
        return np.where(dense_enough, 1.0, np.where(help_per_decade < 0, enough, np.inf))[()]

    @property
    def cutoff(self) -> float:
        """The n from which on more experts do not lower the loss, 10^(-b/c); infinite where c is not positive."""
        return float(10 ** (-self.b / self.c)) if self.c > 0 else np.inf

    @property
    def _offset(self) -> float:
        return 1 / (1 / self.e_start - 1 / self.e_max)


_SOURCE = "Clark et al. 2022, arXiv 2202.01169, recomputed from its released curves"
_MEANING = (
    "n the parameters that one token meets, every other layer routed to one expert; loss on held-out text of its "
    "training data after 130e9 tokens; runs of 15M to 1.3B parameters and up to 512 experts"
)
_NOTE = "its e_max is hardly determined; others' texts give the paper's rounded constants as"

CLARK_2022_SBASE = published(
    "CLARK_2022_SBASE",
    RoutingLaw(a=-0.0830253, b=-0.118044, c=0.00992483, d=1.11358, e_start=2.07457, e_max=238.675),
    source=_SOURCE,
    meaning=f"routing by balanced assignment (S-BASE); {_MEANING}",
    verified=True,
    note=f"{_NOTE} (-.082, -.108, .009, 1.104, 1.847, 314.478)",
)

CLARK_2022_RLR = published(
    "CLARK_2022_RLR",
    RoutingLaw(a=-0.0827295, b=-0.123417, c=0.0112326, d=1.10701, e_start=1.72193, e_max=470.053),
    source=_SOURCE,
    meaning=f"routing by reinforcement learning (RL-R); {_MEANING}",
    verified=True,
    note=f"{_NOTE} (-.083, -.126, .012, 1.111, 1.880, 469.982)",
)

CLARK_2022_HASH = published(
    "CLARK_2022_HASH",
    RoutingLaw(a=-0.0873567, b=-0.138364, c=0.0126352, d=1.15953, e_start=4.26877, e_max=427.323),
    source=_SOURCE,
    meaning=f"routing by a hash of the token (HASH); {_MEANING}",
    verified=True,
    note=f"{_NOTE} (-.087, -.136, .012, 1.157, 4.175, 477.741)",
)
