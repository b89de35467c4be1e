"""The forms of scaling law, as values: immutable, comparable, printable, and JSON both ways.

A law says nothing of where its numbers came from: a published one and one fitted from your own runs are the
same type. Symbols throughout: N parameters, D training tokens, C training FLOPs, L loss in nats per token.
Which N (embeddings counted or not) and which C (6ND or exact) a law means is a property of the runs it was
fitted to; :mod:`isoflop.laws.published` says it for each constant there. Evaluation costs one numpy
expression.

Left out, until something needs them: data-constrained, over-training, distillation and MoE forms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Law:
    """What all laws share: a ``kind`` by which JSON names the form, and finite numbers as fields.

    A new form is a frozen dataclass that inherits this and states its kind; reading it back then works.
    """

    kind: ClassVar[str]
    _forms: ClassVar[dict[str, type[Law]]] = {}

    def __init_subclass__(cls, kind: str) -> None:
        cls.kind = kind
        Law._forms[kind] = cls

    def __post_init__(self) -> None:
        for name, value in self.parameters().items():
            number = float(value)
            if not math.isfinite(number):
                raise ValueError(f"{self.kind} law: {name} is {number}; every parameter must be a finite number")
            object.__setattr__(self, name, number)

    def parameters(self) -> dict[str, float]:
        """Give the law's numbers by name, in the order of its fields."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def to_json(self) -> dict[str, str | float]:
        """Give a dict that ``json`` can write: the kind, then every parameter at full precision."""
        return {"kind": self.kind, **self.parameters()}

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Self:
        """Read what :meth:`to_json` wrote; ``Law.from_json`` reads any form, a subclass only its own.

        Raises ValueError for an unknown or unexpected kind, and for missing, unknown or non-numeric
        parameters.
        """
        kind = data.get("kind")
        form = Law._forms.get(kind) if isinstance(kind, str) else None
        if form is None or not issubclass(form, cls):
            known = ", ".join(sorted(name for name, known in Law._forms.items() if issubclass(known, cls)))
            raise ValueError(f"law kind {kind!r} cannot be read here; expected one of: {known}")
        wanted = [field.name for field in fields(form)]  # type: ignore[arg-type]
        if set(data) - {"kind"} != set(wanted):
            given = ", ".join(sorted(set(data) - {"kind"})) or "none"
            raise ValueError(f"a {kind} law has parameters {', '.join(wanted)}; the data has {given}")
        numbers = [data[name] for name in wanted]
        for name, number in zip(wanted, numbers, strict=True):
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise ValueError(f"{kind} law: {name} is {number!r}; it must be a number")
        return form(*numbers)


@dataclass(frozen=True)
class PowerLaw(Law, kind="power-law"):
    """y = coefficient · x^exponent.

    Units are the caller's. Llama 3's tokens for a budget, D*(C) = A·C^α, has x in FLOPs and y in tokens.
    """

    coefficient: float
    exponent: float

    @overload
    def __call__(self, x: float) -> float: ...
    @overload
    def __call__(self, x: ArrayLike) -> Array | float: ...
    def __call__(self, x: ArrayLike) -> Array | float:
        """Evaluate the law at ``x`` (a number or an array; the result has its shape)."""
        values: Array = self.coefficient * np.asarray(x, float) ** self.exponent
        return values

    def __str__(self) -> str:
        return f"y = {self.coefficient:.6g} · x^{self.exponent:.5g}"


@dataclass(frozen=True)
class SaturatingPowerLaw(Law, kind="saturating-power-law"):
    """L = floor + (scale / x)^exponent, with x any of N, D or C, L and floor in nats per token.

    The floor is the entropy of the data; the second term is what more scale still removes; ``scale`` is the
    x at which that term is one nat. Source: Henighan et al. 2020, "Scaling Laws for Autoregressive Generative
    Modeling", equation 1.1; with floor 0 it is Kaplan et al. 2020.
    """

    floor: float
    scale: float
    exponent: float

    @overload
    def __call__(self, x: float) -> float: ...
    @overload
    def __call__(self, x: ArrayLike) -> Array | float: ...
    def __call__(self, x: ArrayLike) -> Array | float:
        """Evaluate the loss at ``x`` (a number or an array; the result has its shape)."""
        values: Array = self.floor + (self.scale / np.asarray(x, float)) ** self.exponent
        return values

    def __str__(self) -> str:
        return f"L = {self.floor:.6g} + ({self.scale:.6g} / x)^{self.exponent:.5g}"


@dataclass(frozen=True)
class Allocation:
    """How a budget is spent: N parameters on D tokens, at the loss the law gives there (C = 6ND)."""

    N: float
    D: float
    C: float
    loss: float

    def __str__(self) -> str:
        return f"N = {self.N:.4g}, D = {self.D:.4g} for C = {self.C:.4g} FLOPs: {self.loss:.4f} nats/token"


@dataclass(frozen=True)
class Chinchilla(Law, kind="chinchilla"):
    """L(N, D) = E + A/N^α + B/D^β, in nats per token.

    E is the entropy of the data, the second term what a larger model and the third what more tokens would
    remove. Source: Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", equation 2.
    """

    E: float
    A: float
    alpha: float
    B: float
    beta: float

    @overload
    def loss(self, N: float, D: float) -> float: ...
    @overload
    def loss(self, N: ArrayLike, D: ArrayLike) -> Array | float: ...
    def loss(self, N: ArrayLike, D: ArrayLike) -> Array | float:
        """Evaluate the loss of N parameters trained on D tokens; N and D broadcast."""
        n, d = np.asarray(N, float), np.asarray(D, float)
        values: Array = self.E + self.A * n**-self.alpha + self.B * d**-self.beta
        return values

    def optimal(self, C: float) -> Allocation:
        """Spend C FLOPs for the lowest loss, under C = 6ND (Hoffmann et al. 2022, equation 4).

        Raises ValueError for a budget that is not positive, and for a law with no optimum inside (a
        coefficient or exponent that is zero or negative: one side is then free).
        """
        if not (math.isfinite(C) and C > 0):
            raise ValueError(f"the budget C is {C}; give a positive number of FLOPs")
        if min(self.A, self.B, self.alpha, self.beta) <= 0:
            raise ValueError(f"{self} has no compute-optimal point: A, B, α and β must all be positive")
        N, D = (float(column[0]) for column in compute_optimal(np.array([[*self.parameters().values()]]), C))
        return Allocation(N=N, D=D, C=C, loss=float(self.loss(N, D)))

    def __str__(self) -> str:
        return f"L = {self.E:.6g} + {self.A:.6g}/N^{self.alpha:.5g} + {self.B:.6g}/D^{self.beta:.5g}"


def compute_optimal(laws: Array, C: float) -> tuple[Array, Array]:
    """Return the N and D of lowest L under C = 6ND, for each row E, A, alpha, B, beta of laws (batch, 5)."""
    _, A, alpha, B, beta = laws.T
    log_G = np.log(alpha * A / (beta * B)) / (alpha + beta)
    # A bootstrap draw of nearly free N or D has its optimum beyond all numbers: say so with a huge one.
    N: Array = np.exp(np.clip(log_G + beta / (alpha + beta) * np.log(C / 6), -140, 140))
    return N, C / 6 / N
