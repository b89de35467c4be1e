"""Learning rate, batch size and weight decay as products of powers, and the published rules.

Every rule in use has one shape, y = coefficient · N^a · D^b · …, in some of six quantities: N parameters, D training
tokens, C training FLOPs, L loss in nats per token, B batch size, and the width of the model. A rule that was
published without a coefficient is a :class:`Proportion`; measure y once and ``through`` makes a rule of it. What y is,
which N and which unit of B a rule means is said by its entry in the library.

Left out: rules for warmup and for the shape of the decay, and μP, which is a parametrisation and not a law.
:mod:`isoflop.laws.fitting.powers` fits a rule to your own runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..library import published
from .law import BLANK, Array, Law, Values, positive


@dataclass(frozen=True, repr=False, kw_only=True)
class Powers(Law):
    """The exponents of a product of powers. A quantity with exponent 0, as when not named, does not matter."""

    N: float = 0.0
    D: float = 0.0
    C: float = 0.0
    L: float = 0.0
    B: float = 0.0
    width: float = 0.0

    def exponents(self) -> dict[str, float]:
        """Give the elasticities ∂ log y / ∂ log x of the quantities that matter, by name."""
        return {name: power for name, power in self.parameters().items() if name != "coefficient" and power != 0}

    def product(self, quantities: Mapping[str, ArrayLike]) -> Array:
        """Multiply the powers of the quantities that matter; others may be given too, and arrays broadcast.

        Raises ValueError for a quantity that is missing, unknown, or not positive.
        """
        exponents = self.exponents()
        missing = ", ".join(name for name in exponents if name not in quantities)
        if missing:
            raise ValueError(f"{self} depends on {missing}: give it by name")
        known = Powers.__dataclass_fields__
        unknown = ", ".join(name for name in quantities if name not in known)
        if unknown:
            raise ValueError(f"{unknown} is no quantity of a rule; those are {', '.join(known)}")
        logs = (power * np.log(positive(name, quantities[name])) for name, power in exponents.items())
        return np.exp(np.asarray(sum(logs, start=np.zeros(()))))

    def powers(self) -> str:
        """Write the powers out, such as ``N^-0.713·D^0.307``."""
        return "·".join(f"{name}^{_shown(power)}" for name, power in self.exponents().items())


@dataclass(frozen=True, repr=False, kw_only=True)
class Proportion(Powers, kind="proportion"):
    """y ∝ Π x^exponent: how y grows, not how large it is."""

    formula = "y ∝ Π x^exponent"

    def through(self, y: float, **quantities: float) -> PowerProduct:
        """Give the rule that has the value ``y`` at the given quantities, such as the best batch of one size."""
        scale = float(positive("y", y)) / float(self.product(quantities))
        return PowerProduct(coefficient=scale, **self.exponents())

    def __str__(self) -> str:
        return f"y ∝ {self.powers() or 1}"


@dataclass(frozen=True, repr=False, kw_only=True)
class PowerProduct(Powers, kind="power-product"):
    """y = coefficient · Π x^exponent, such as lr = 1.80 · N^-.713 · D^.307."""

    coefficient: float = BLANK
    formula = "y = coefficient · Π x^exponent"

    def __call__(self, **quantities: ArrayLike) -> Values:
        """Evaluate the rule at quantities given by name, as in ``law(N=1e9, D=2e10)``.

        Raises ValueError for a quantity that is missing, unknown, or not positive.
        """
        return (self.coefficient * self.product(quantities))[()]

    def slope(self, name: str, **quantities: ArrayLike) -> Values:
        """Give ∂y/∂x for the quantity x called ``name``."""
        return self._power_of(name) * self(**quantities) / np.asarray(quantities[name], float)

    def inverse(self, name: str, y: ArrayLike, **others: ArrayLike) -> Values:
        """Give the value of the quantity called ``name`` at which the rule is ``y``, the others being given."""
        power = self._power_of(name)
        return (positive("y", y) / self(**{**others, name: 1.0})) ** (1 / power)

    def _power_of(self, name: str) -> float:
        power = self.exponents().get(name)
        if power is None:
            raise ValueError(f"{self} does not depend on {name}")
        return power

    def __str__(self) -> str:
        return "·".join(filter(None, (f"y = {_shown(self.coefficient)}", self.powers())))


@dataclass(frozen=True, repr=False)
class SecondMomentDecay(Law, kind="second-moment-decay"):
    """β₂ = base^(B/batch), AdamW's decay for a batch of B: the memory of squared gradients, constant in tokens.

    ``base`` is β₂ at a batch of ``batch``. Source: Marek et al. 2025, arXiv 2507.07101, as Marin uses it.
    """

    base: float = BLANK
    batch: float = BLANK
    formula = "β₂ = {base}^(B / {batch})"

    def __call__(self, B: ArrayLike) -> Values:
        """Evaluate β₂ for a batch of B, in the unit of ``batch``."""
        return self.base ** (np.asarray(B, float) / self.batch)

    def slope(self, B: ArrayLike) -> Values:
        """Give dβ₂/dB."""
        return math.log(self.base) / self.batch * self(B)

    def inverse(self, beta2: ArrayLike) -> Values:
        """Give the batch for which ``beta2`` is right."""
        return self.batch * np.log(np.asarray(beta2, float)) / math.log(self.base)


def _shown(number: float) -> str:
    return "?" if math.isnan(number) else f"{number:.6g}"


_STEP = "Li et al. 2025, arXiv 2503.04715 (Step Law), the means of its 1,000 released bootstrap fits"
_STEP_NOTE = "these do not all follow from the released runs: see isoflop.laws.reproduction.steplaw"

STEP_LAW_LEARNING_RATE = published(
    "STEP_LAW_LEARNING_RATE",
    PowerProduct(coefficient=1.79734, N=-0.712922, D=0.307491),
    source=_STEP,
    meaning="peak learning rate of AdamW; N without embeddings and output head, D in tokens",
    verified=True,
    note=f"printed as 1.79·N^-.713·D^.307; cosine to a fixed 1e-5; {_STEP_NOTE}",
)

STEP_LAW_BATCH = published(
    "STEP_LAW_BATCH",
    PowerProduct(coefficient=0.580688, D=0.570944),
    source=_STEP,
    meaning="batch in tokens (sequences of 2,048); D in tokens",
    verified=True,
    note=f"printed as .58·D^.571; {_STEP_NOTE}",
)

NANOCHAT_BATCH = published(
    "NANOCHAT_BATCH",
    Proportion(D=0.383),
    source="nanochat, scripts/base_train.py",
    meaning="batch in tokens; D in tokens",
    verified=True,
    note="through 2^19 tokens at the D of its model of depth 12, rounded to a power of two; after Power Lines",
)

NANOCHAT_LEARNING_RATE = published(
    "NANOCHAT_LEARNING_RATE",
    Proportion(B=0.5),
    source="nanochat, scripts/base_train.py",
    meaning="learning rates of AdamW and Muon; B the batch in tokens",
    verified=True,
    note="its authors call it standard for AdamW and an assumption for Muon",
)

NANOCHAT_WEIGHT_DECAY = published(
    "NANOCHAT_WEIGHT_DECAY",
    Proportion(B=0.5, D=-1),
    source="nanochat, scripts/base_train.py",
    meaning="weight decay; B the batch in tokens, D in tokens",
    verified=True,
    note="keeps B/(lr · weight decay · D) constant where lr ∝ √B",
)

POWER_LINES_BATCH = published(
    "POWER_LINES_BATCH",
    Proportion(D=0.383),
    source="Bergsma et al. 2025, arXiv 2505.13738 (Power Lines), as nanochat cites it",
    meaning="batch of lowest loss; D in tokens",
    verified=False,
)

OLMO_CORE_BATCH = published(
    "OLMO_CORE_BATCH",
    PowerProduct(coefficient=2048 * 160 * 108e6 ** (-2 / 3), N=2 / 3),
    source="OLMo-core, model ladder: 2048·160·(N/108e6)^(2/3), after Porian et al. 2024, arXiv 2406.19146",
    meaning="batch in tokens; N without embeddings",
    verified=True,
)

OLMO_CORE_LEARNING_RATE = published(
    "OLMO_CORE_LEARNING_RATE",
    PowerProduct(coefficient=0.0047 / 2 * 108e6 ** (1 / 3), N=-1 / 3),
    source="OLMo-core, model ladder: .0047·(N/108e6)^(-1/3)/2, after Porian et al. 2024, arXiv 2406.19146",
    meaning="peak learning rate of AdamW; N without embeddings",
    verified=True,
)

MARIN_LEARNING_RATE = published(
    "MARIN_LEARNING_RATE",
    PowerProduct(coefficient=0.33, B=0.5, width=-1),
    source="Marin, marin/scaling_laws",
    meaning="peak learning rate; B the batch in sequences of 4,096 tokens, width that of the residual stream",
    verified=True,
    note="Marin halves the batch until the rate is at most .01",
)

MARIN_BETA2 = published(
    "MARIN_BETA2",
    SecondMomentDecay(base=0.98, batch=128),
    source="Marin, marin/scaling_laws, after Marek et al. 2025, arXiv 2507.07101",
    meaning="β₂ of AdamW; B the batch in sequences of 4,096 tokens",
    verified=True,
)

_DEEPSEEK = "DeepSeek-AI 2024, arXiv 2401.02954, section 3"
_DEEPSEEK_C = "C = M·D with M the FLOPs per token without embeddings, attention's products counted"

DEEPSEEK_FLOPS_PER_TOKEN = published(
    "DEEPSEEK_FLOPS_PER_TOKEN",
    PowerProduct(coefficient=0.1715, C=0.5243),
    source=_DEEPSEEK,
    meaning=f"compute-optimal M, FLOPs per token; {_DEEPSEEK_C}",
    verified=False,
)

DEEPSEEK_TOKENS = published(
    "DEEPSEEK_TOKENS",
    PowerProduct(coefficient=5.8316, C=0.4757),
    source=_DEEPSEEK,
    meaning=f"compute-optimal D in tokens; {_DEEPSEEK_C}",
    verified=False,
)

DEEPSEEK_BATCH = published(
    "DEEPSEEK_BATCH",
    PowerProduct(coefficient=0.2920, C=0.3271),
    source=_DEEPSEEK,
    meaning=f"batch in tokens; {_DEEPSEEK_C}",
    verified=False,
)

DEEPSEEK_LEARNING_RATE = published(
    "DEEPSEEK_LEARNING_RATE",
    PowerProduct(coefficient=0.3118, C=-0.1250),
    source=_DEEPSEEK,
    meaning=f"peak learning rate of AdamW; {_DEEPSEEK_C}",
    verified=False,
)

MINICPM_BATCH = published(
    "MINICPM_BATCH",
    PowerProduct(coefficient=1.21e9, L=-6.24),
    source="Hu et al. 2024, arXiv 2404.06395 (MiniCPM)",
    meaning="batch in tokens that reaches a loss of L on C4 in the fewest tokens",
    verified=False,
)
