"""The data-mixing law: the loss as a function of the proportions in which domains are mixed.

The model and the number of tokens are those of the runs it was fitted to and do not appear. With positive k and s the
overall loss is a sum of exponentials of linear functions, hence convex: its best mixture is a convex problem
(:mod:`isoflop.laws.fitting.optimal_mixture`). An evaluation costs one small matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from .law import Array, Law, Values

_SPELLED_OUT = 4  # the most domains whose terms are all printed


@dataclass(frozen=True, repr=False)
class ExponentialMixture(Law, kind="exponential-mixture"):
    """L_i(r) = c_i + k_i·exp(Σ_j t_ij·r_j) in nats per token for target i, and Σ_i s_i·L_i overall.

    r are the proportions of the domains, summing to one; t has shape (targets, domains), c, k and s one entry a
    target. c is the floor; a negative t_ij says that domain j helps target i. A constant moved between ln k_i and the
    whole row t_i changes nothing; a fit puts k_i = 1, so that exp(t_ij) is what training on domain j alone leaves above
    the floor. With c = 0 the law is log-linear, log L_i = ln k_i + Σ_j t_ij·r_j (olmix). s defaults to equal shares.

    Raises ValueError for sizes that disagree, numbers that are not finite, k that is not positive, a negative s, and
    names given twice. Any sequences are accepted and stored as tuples. A mixture law has no blanks.
    Source: Ye et al. 2024, "Data Mixing Laws", arXiv 2403.16952.
    """

    domains: tuple[str, ...]
    targets: tuple[str, ...]
    c: tuple[float, ...]
    k: tuple[float, ...]
    t: tuple[tuple[float, ...], ...]
    s: tuple[float, ...] = ()
    formula = "L_i = c_i + k_i·exp(Σ_j t_ij·r_j)"

    def __post_init__(self) -> None:
        for name in ("domains", "targets"):
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        if not (self.domains and self.targets):
            raise ValueError(f"a {self.kind} law needs at least one domain and one target")
        count = len(self.targets)
        for name in ("c", "k", "s"):
            values = getattr(self, name) if name != "s" or len(self.s) else [1 / count] * count
            object.__setattr__(self, name, _numbers(name, values, count))
        if len(self.t) != count:
            raise ValueError(f"t has {len(self.t)} rows for {count} targets; give one row per target")
        named = zip(self.targets, self.t, strict=True)
        rows = tuple(_numbers(f"t of {target}", row, len(self.domains)) for target, row in named)
        object.__setattr__(self, "t", rows)
        if min(self.k) <= 0 or min(self.s) < 0 or max(self.s) <= 0:
            raise ValueError(f"k must be positive and s not negative, not all zero; k is {self.k}, s is {self.s}")

    def parameters(self) -> dict[str, float]:
        """Give the law's numbers by name, such as ``c[code]`` and ``t[code,web]``: target first, then domain."""
        numbers: dict[str, float] = {}
        for i, target in enumerate(self.targets):
            numbers |= {f"c[{target}]": self.c[i], f"k[{target}]": self.k[i], f"s[{target}]": self.s[i]}
            numbers |= {f"t[{target},{domain}]": self.t[i][j] for j, domain in enumerate(self.domains)}
        return numbers

    def predict(self, weights: ArrayLike) -> Array:
        """Predict the losses of mixtures (..., domains); shape (..., targets), nats per token.

        Raises ValueError when the last axis is not one proportion per domain.
        """
        return np.asarray(self.c + self._excess(weights))

    def __call__(self, weights: ArrayLike) -> Values:
        """Evaluate the overall loss Σ s_i·L_i of mixtures (..., domains); shape (...)."""
        return self.predict(weights) @ np.asarray(self.s)

    def slopes(self, weights: ArrayLike) -> Array:
        """Give ∂L_i/∂r_j, each proportion taken as free of the others; shape (..., targets, domains)."""
        return np.asarray(self._excess(weights)[..., None] * np.asarray(self.t))

    def gradient(self, weights: ArrayLike) -> Array:
        """Give the derivatives of the overall loss by each proportion; shape (..., domains)."""
        return np.asarray(np.asarray(self.s) * self._excess(weights) @ np.asarray(self.t))

    def _excess(self, weights: ArrayLike) -> Array:
        r = np.asarray(weights, float)
        if r.ndim == 0 or r.shape[-1] != len(self.domains):
            raise ValueError(
                f"the mixtures have shape {r.shape}; the law wants (..., {len(self.domains)}), "
                f"one proportion each of {', '.join(self.domains)}"
            )
        return np.asarray(self.k * np.exp(r @ np.asarray(self.t).T))

    def __str__(self) -> str:
        if len(self.targets) > 1:
            return f"{self.formula}, {len(self.targets)} targets, {len(self.domains)} domains"
        (c,), (k,), (t,) = self.c, self.k, self.t
        law = f"{self.targets[0]} = " + (f"{c:.4g} + " if c else "") + (f"{k:.4g}·" if k != 1 else "")
        if len(self.domains) <= _SPELLED_OUT:
            terms = " + ".join(f"{value:.4g}·{name}" for name, value in zip(self.domains, t, strict=True))
            return f"{law}exp({terms})".replace("+ -", "- ")
        low, high = int(np.argmin(t)), int(np.argmax(t))
        extremes = f"t from {t[low]:.4g} ({self.domains[low]}) to {t[high]:.4g} ({self.domains[high]})"
        return f"{law}exp(Σ_j t_j·r_j), {len(self.domains)} domains, {extremes}"

    def to_json(self) -> dict[str, object]:
        """Give a dict that ``json`` can write: the kind, names and numbers, at full precision."""
        names = {"kind": self.kind, "domains": list(self.domains), "targets": list(self.targets)}
        return {**names, "c": list(self.c), "k": list(self.k), "t": [list(row) for row in self.t], "s": list(self.s)}

    @classmethod
    def read_parameters(cls, data: Mapping[str, object]) -> Self:
        """Read what :meth:`to_json` wrote; raises ValueError for missing, unknown or misshapen entries."""
        wanted = [field.name for field in fields(cls)]
        if set(data) - {"kind"} != set(wanted):
            given = ", ".join(sorted(set(data) - {"kind"})) or "none"
            raise ValueError(f"a {cls.kind} law has {', '.join(wanted)}; the data has {given}")
        for name in wanted:
            if not isinstance(data[name], list):
                raise ValueError(f"{cls.kind} law: {name} is {data[name]!r}; it must be a list")
        return cls(**{name: data[name] for name in wanted})  # type: ignore[arg-type]


def _names(what: str, names: Iterable[str]) -> tuple[str, ...]:
    given = tuple(names)
    if isinstance(names, str) or not all(isinstance(name, str) for name in given):
        raise ValueError(f"{what} must be a list of names, not {names!r}")
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise ValueError(f"{what} has {', '.join(twice)} more than once")
    return given


def _numbers(what: str, values: object, count: int) -> tuple[float, ...]:
    given = tuple(values) if isinstance(values, Iterable) else ()
    real = [isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in given]
    if len(given) != count or not all(real) or not all(map(math.isfinite, given)):
        raise ValueError(f"{what} must be {count} finite numbers, not {values!r}")
    return tuple(map(float, given))
