"""How to spend a budget under what binds: parameters and tokens, and which constraint decided.

The optimum of a law is moved by the tokens at hand (repeated up to a number of passes, at what repeats are worth), by
the tokens to be served (the budget then pays for training and serving), by the largest model that fits a device, or
by a size or token count that is given. Every constraint that moved it is said in a sentence. A few milliseconds.
C = 6·N·D for training and 2·N for every token served, with N as the law counts it. Left out: prices that differ
between training and serving, and the law's doubt about its own optimum, which is the evidence's to say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from isoflop.laws import Allocation, lifetime
from isoflop.laws.forms.surface import FLOPS, minimise, reach
from isoflop.planning import repetition
from isoflop.planning.evidence import Evidence
from isoflop.planning.shape import human

SERVING = 2.0  # FLOPs per parameter and token served
EXACT = 1e-9  # relative: what arithmetic loses


@dataclass(frozen=True)
class Limits:
    """What binds a plan; None or zero where nothing does.

    Attributes:
        unique: different tokens at hand.
        epochs: passes over them at most.
        served: tokens that the model will read and write over its life.
        most_params: the largest N that is allowed, as the law counts it, and ``most_reason``, why.
        params: a given N, as the law counts it.
        tokens: a given D.
    """

    unique: float | None = None
    epochs: float = 4.0
    served: float = 0.0
    most_params: float | None = None
    most_reason: str = ""
    params: float | None = None
    tokens: float | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that leave nothing to plan."""
        for name in ("unique", "epochs", "most_params", "params", "tokens"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                what = {"unique": "tokens at hand", "most_params": "parameters at most"}.get(name, name)
                raise ValueError(f"{value:g} {what} leave nothing to plan with; give a positive number")
        if not 0 <= self.served < math.inf:
            raise ValueError(f"{self.served:g} tokens cannot be served; give zero or more")

    @property
    def most_tokens(self) -> float:
        """Tokens that may be trained on, repeats counted."""
        return math.inf if self.unique is None else self.unique * self.epochs

    @property
    def fresh(self) -> float:
        """Different tokens there are."""
        return math.inf if self.unique is None else self.unique


@dataclass(frozen=True)
class Choice:
    """N and D for a budget of C FLOPs, what was left unspent, and the sentences about what moved them."""

    C: float
    N: float
    D: float
    served: float
    free_N: float
    binding: tuple[str, ...]

    @property
    def training(self) -> float:
        """FLOPs of training."""
        return FLOPS * self.N * self.D

    @property
    def serving(self) -> float:
        """FLOPs of serving."""
        return SERVING * self.N * self.served

    @property
    def unspent(self) -> float:
        """FLOPs that no constraint lets be spent."""
        return max(self.C - self.training - self.serving, 0.0)


def allocate(evidence: Evidence, C: float, limits: Limits) -> Choice:
    """Spend C FLOPs within the limits.

    Raises ValueError, naming what binds and the nearest that is possible, where they contradict each other.
    """
    free = evidence.optimum(C)
    refuse_impossible(C, limits)
    N = limits.params or (size_for(C, limits.tokens, limits.served) if limits.tokens else best(evidence, C, limits))
    N = min(N, limits.most_params or math.inf)
    D = limits.tokens or min(tokens_of(C, N, limits.served), limits.most_tokens)
    return Choice(C, N, D, limits.served, free, tuple(reasons(evidence, C, limits, free, N, D)))


def tokens_of(C: float, N: float, served: float) -> float:
    """Training tokens that C FLOPs leave for N parameters that will serve so many tokens."""
    return (C / N - SERVING * served) / FLOPS


def size_for(C: float, D: float, served: float) -> float:
    """Parameters that C FLOPs can train on D tokens and serve."""
    return C / (FLOPS * D + SERVING * served)


def best(evidence: Evidence, C: float, limits: Limits) -> float:
    """The size of lowest loss, whatever else binds."""
    least = size_for(C, limits.most_tokens, limits.served) if math.isfinite(limits.most_tokens) else 0.0
    surface = evidence.surface
    if surface is None:
        if limits.served:
            raise ValueError(
                f"{evidence.name} knows no loss off its optimum, so it cannot weigh what {human(limits.served)} served "
                f"tokens are worth; choose a law of N and D, such as --law BESIROGLU_2024"
            )
        return max(evidence.optimum(C), least)
    if not limits.served and limits.unique is None:
        return evidence.optimum(C)

    def loss(log_N: np.ndarray) -> np.ndarray:
        N = np.exp(log_N)
        D = np.clip(tokens_of(C, N, limits.served), 1.0, limits.most_tokens)
        return repetition.loss(surface, N, D, limits.fresh)

    free = evidence.optimum(C)
    most = C / (SERVING * limits.served) if limits.served else free * 1e4
    return math.exp(minimise(loss, math.log(min(free, most) * 1e-6), math.log(min(most, free * 1e4))))


def refuse_impossible(C: float, limits: Limits) -> None:
    """Raise ValueError for limits that no model meets."""
    N, D, S = limits.params, limits.tokens, limits.served
    if D and limits.most_tokens * (1 + EXACT) < D:
        raise ValueError(
            f"{human(D)} tokens are {D / limits.fresh:.1f} passes over the {human(limits.fresh)} at hand, and "
            f"{limits.epochs:g} are allowed; give --epochs {math.ceil(D / limits.fresh)}, or at most "
            f"{human(limits.most_tokens)} tokens"
        )
    if N and limits.most_params and limits.most_params * (1 + EXACT) < N:
        raise ValueError(
            f"{human(N)} parameters are too many: {limits.most_reason}; {human(limits.most_params)} are possible"
        )
    if N and D and C * (1 + 1e-3) < FLOPS * N * D + SERVING * N * S:
        raise ValueError(
            f"{human(N)} parameters on {human(D)} tokens take {FLOPS * N * D + SERVING * N * S:.3g} FLOPs, and the "
            f"budget is {C:.3g}; it allows {human(size_for(C, D, S))} parameters on those tokens"
            + (f", or that size on {human(tokens_of(C, N, S))}" if tokens_of(C, N, S) > 0 else "")
        )
    if N and tokens_of(C, N, S) <= 0:
        raise ValueError(
            f"serving {human(S)} tokens with {human(N)} parameters takes {SERVING * N * S:.3g} FLOPs, more than the "
            f"budget of {C:.3g}; with half of it for training {human(C / 4 / S)} parameters are possible"
        )


def reasons(evidence: Evidence, C: float, limits: Limits, free: float, N: float, D: float) -> list[str]:
    """Sentences about every limit that moved the answer."""
    alone = C / FLOPS / free
    said = []
    if limits.served:
        said.append(
            f"serving {human(limits.served)} tokens takes {SERVING * N * limits.served / C:.0%} of the budget, which "
            f"makes a smaller model worth while: for training alone the law would take {human(free)}"
        )
    if limits.unique is not None and alone > limits.fresh * (1 - EXACT):
        said.append(
            f"{human(limits.fresh)} tokens are at hand and {evidence.name} alone would take {human(alone)}: "
            + (f"{D / limits.fresh:,.3g} passes over them" if limits.fresh * 1.001 < D else "the rest goes into size")
        )
    if limits.most_params and limits.most_params * (1 - EXACT) <= N:
        said.append(
            f"{limits.most_reason}: {human(N)} parameters at most, where the law alone would take {human(free)}"
        )
    if limits.params or limits.tokens:
        given = f"{human(N)} parameters" if limits.params else f"{human(D)} tokens"
        said.append(f"{given} were given; the law alone would take {human(free)} on {human(alone)}")
    left = C - FLOPS * N * D - SERVING * N * limits.served
    if left > 0.01 * C:
        said.append(f"{left / C:.0%} of the budget cannot be spent within these limits ({left:.3g} FLOPs)")
    return said


@dataclass(frozen=True)
class Alternative:
    """Another size for the same budget: what it costs in loss, and what it saves in serving.

    ``factor`` is its size over the plan's, which is also what a served token costs. ``same_loss`` is what training it
    to the plan's loss would take, over the plan's training FLOPs; infinite where the tokens at hand do not allow it.
    """

    factor: float
    N: float
    D: float
    loss: float
    price: float
    same_loss: float


FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


def alternatives(evidence: Evidence, choice: Choice, limits: Limits) -> tuple[Alternative, ...]:
    """Sizes around the plan's for the same training FLOPs; none where the law knows no loss."""
    surface = evidence.surface
    if surface is None:
        return ()
    plan = float(repetition.loss(surface, choice.N, choice.D, limits.fresh))
    found = []
    for factor in FACTORS:
        N = choice.N * factor
        D = min(choice.training / FLOPS / N, limits.most_tokens)
        loss = float(repetition.loss(surface, N, D, limits.fresh))
        same = FLOPS * N * tokens_to_reach(plan, N, evidence, limits) / choice.training
        found.append(Alternative(factor, N, D, loss, loss - plan, same))
    return tuple(found)


def tokens_to_reach(loss: float, N: float, evidence: Evidence, limits: Limits) -> float:
    """Tokens on which N parameters reach a loss, repeats counted; infinite where those at hand do not allow it."""
    surface = evidence.surface
    assert surface is not None
    if limits.unique is None:
        return surface.tokens_for(loss, N)
    falling = reach(lambda D: repetition.loss(surface, N, D, limits.fresh), loss * (1 + EXACT), 1.0, limits.most_tokens)
    return float(falling)


def cheapest_over_life(evidence: Evidence, choice: Choice) -> Allocation | None:
    """The model that reaches the compute-optimal loss of the budget with the least training and serving together.

    Sardana & Frankle 2023; None where nothing is served or the law knows no loss.
    """
    if evidence.surface is None or not choice.served:
        return None
    found = lifetime(evidence.surface, choice.served, C=choice.C)
    return Allocation(found.N, found.D, found.total, found.loss)
