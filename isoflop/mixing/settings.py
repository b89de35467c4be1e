"""What a search for a mixture is made of, as one frozen value that ``mix.toml`` holds, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isoflop.laws.fitting.optimal_mixture import repetition_caps

Weights = NDArray[np.float64]

LEAST_CAPS = 1.001
"""Sum of the caps below which all mixtures are nearly one, so that proxies could not tell the domains apart."""


@dataclass(frozen=True)
class Domain:
    """A source of training tokens: a folder that ``isoflop prepare`` made, and the tokens of its train split."""

    name: str
    data: str
    available: int


@dataclass(frozen=True)
class HeldOut:
    """A text on which every proxy is measured: a split of a prepared folder.

    ``share`` is its part in the loss that the mixture is chosen to lower, Σ share·L; 0 where it is only looked at.
    """

    name: str
    data: str
    split: Literal["train", "validation"]
    share: float = 0.0


@dataclass(frozen=True)
class MixConfig:
    """A search: the domains, what to lower, the proxies, and what the chosen weights must keep to.

    Attributes:
        domains: what can be mixed; folders are relative to the search's directory or absolute.
        held_out: what is measured; shares sum to one.
        vocab: vocabulary of all of them, which share a tokenizer.
        parameters: size of a proxy, ``matmul`` parameters.
        tokens: tokens that a proxy is trained on.
        target_tokens: tokens of the run that the mixture is for. They decide how often it repeats a domain.
        proxies: how many mixtures are tried.
        epochs: most repetitions of a domain in the run that the mixture is for.
        strength: nats of loss that a nat of KL divergence from the prior must be worth.
        prior: "natural", shares by available tokens, or "uniform".
        temperature: power of the prior around which mixtures are drawn; below 1 flattens it, as RegMix does (0.5).
        concentration: of the Dirichlet distribution that mixtures are drawn from, per domain, from and to.
        least: part of every drawn mixture that is the prior itself, so that no proxy misses a domain altogether.
        replicates: bootstrap refits.
        validation_tokens: tokens of the fixed sample of each held-out text.
    """

    domains: tuple[Domain, ...]
    held_out: tuple[HeldOut, ...]
    vocab: int
    parameters: float
    tokens: int
    target_tokens: float
    context: int = 128
    proxies: int = 32
    epochs: float = 4.0
    strength: float = 0.05
    prior: Literal["natural", "uniform"] = "natural"
    temperature: float = 0.5
    concentration: tuple[float, float] = (0.5, 4.0)
    least: float = 0.02
    replicates: int = 200
    validation_tokens: int = 65_536
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a search that cannot end in an answer."""
        self._check_domains()
        fewest = len(self.domains) + 3  # a floor, the domains, the noise, and one left out
        if self.proxies < fewest:
            raise ValueError(f"{self.proxies} proxies cannot teach a law of {len(self.domains)} domains: give {fewest}")
        if not (self.tokens > 0 and self.target_tokens > 0 and self.parameters > 0 and self.epochs > 0):
            raise ValueError("tokens, target_tokens, parameters and epochs must be above 0")
        if not 0 < self.least < 1 or self.temperature < 0 or not 0 < self.concentration[0] <= self.concentration[1]:
            raise ValueError(
                f"least is a part between 0 and 1, temperature not negative, concentration two ascending positive "
                f"numbers; they are {self.least}, {self.temperature} and {self.concentration}"
            )
        if (most := self.caps.sum()) < LEAST_CAPS:
            passes = self.target_tokens / sum(domain.available for domain in self.domains)
            kept = "no mixture keeps" if most < 1 - 1e-9 else "only the natural mixture keeps"
            raise ValueError(
                f"{kept} to {self.epochs:g} epochs: {self.target_tokens:,.0f} tokens are {passes:.3g} passes "
                f"over all domains together; plan for fewer tokens, give more text, or raise the epochs"
            )

    def _check_domains(self) -> None:
        names = [domain.name for domain in self.domains]
        if len(set(names)) != len(names) or len(names) < 2:
            raise ValueError(f"a mixture needs two or more domains with different names, not {', '.join(names)}")
        if empty := [domain.name for domain in self.domains if domain.available < 1]:
            raise ValueError(f"{', '.join(empty)}: no training tokens")
        shares = [held.share for held in self.held_out]
        if not shares or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"the shares of what is to be lowered must sum to one, not {shares}")

    @property
    def names(self) -> tuple[str, ...]:
        """The domains' names, in the order of all weights."""
        return tuple(domain.name for domain in self.domains)

    @property
    def available(self) -> Weights:
        """Training tokens of each domain."""
        return np.array([domain.available for domain in self.domains], float)

    @property
    def shares(self) -> Weights:
        """The part of each held-out text in the loss that is to be lowered."""
        return np.array([held.share for held in self.held_out])

    @property
    def natural(self) -> Weights:
        """Shares of the domains by available tokens: every token once."""
        return np.asarray(self.available / self.available.sum())

    @property
    def uniform(self) -> Weights:
        """Equal shares."""
        return np.full(len(self.domains), 1 / len(self.domains))

    @property
    def prior_weights(self) -> Weights:
        """The mixture that the KL term and the samples lean to."""
        return self.natural if self.prior == "natural" else self.uniform

    @cached_property
    def caps(self) -> Weights:
        """The largest share of each domain that keeps to the epochs in the run that the mixture is for."""
        return repetition_caps(self.available, self.target_tokens, self.epochs)

    @property
    def limits(self) -> tuple[int, ...]:
        """Tokens of each domain that a proxy may draw on, so that it repeats them as often as the target run would.

        A proxy of T tokens for a run of D tokens sees the share T/D of every domain, in whole sequences and one at
        least: at equal weights both then make the same number of passes.
        """
        part = min(1.0, self.tokens / self.target_tokens) / self.context
        return tuple(max(1, round(domain.available * part)) * self.context for domain in self.domains)

    def epochs_of(self, weights: Weights) -> Weights:
        """Passes over each domain that the target run makes with these weights."""
        return np.asarray(weights * self.target_tokens / self.available)
