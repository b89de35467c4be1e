"""Choose the mixture: the lowest predicted loss on the simplex, within caps, and not further from a prior than it pays.

The objective is Σ_i s_i·L_i(r) + strength·KL(r ‖ prior). Left free, a mixing law runs to a corner, since nothing in it
says that a domain repeated forever stops teaching: on RegMix's runs the best mixture is one source alone. Caps (from
:func:`repetition_caps`) or the KL term are therefore part of the question, and an answer in a corner says so.

The exponential law is convex, so :func:`optimal_mixture` finds its global optimum, and proves it: mirror descent
(exponentiated gradient; the KL term and the caps are solved exactly in each step) until the linear bound of a convex
function leaves less than 1e-7 nats to gain. That is milliseconds to tenths of a second. Any predictor will do for
:func:`simulated_mixture`, RegMix's procedure; 100,000 mixtures are a tenth of a second for a law, six for trees.

Left out: intervals of the optimum, and trading a domain's repetition against the worth of its repeated tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..forms.law import Array, positive
from ..forms.mixture import ExponentialMixture
from .mixture import Predictor

CORNER = 0.95  # a share beyond which the answer is one domain and no mixture
GAP = 1e-7  # nats that may be left to gain
_TINY = 1e-300  # keeps logarithms of vanished shares finite

Caps = ArrayLike | Mapping[str, float] | None


@dataclass(frozen=True)
class OptimalMixture:
    """A chosen mixture: shares of the domains summing to one, and the overall loss predicted there (nats/token).

    ``divergence`` is KL(r ‖ prior) in nats. ``statuses`` say what makes the answer less than it seems.
    """

    domains: tuple[str, ...]
    weights: tuple[float, ...]
    loss: float
    divergence: float
    statuses: tuple[str, ...]

    def __str__(self) -> str:
        shares = sorted(zip(self.weights, self.domains, strict=True), reverse=True)
        listing = ", ".join(f"{name} {share:.1%}" for share, name in shares if share >= 0.0005)
        return f"{listing}: {self.loss:.4f} nats/token, {self.divergence:.3g} nats from the prior"


def repetition_caps(available: ArrayLike, budget: float, epochs: float = 4.0) -> Array:
    """Give each domain's largest share of ``budget`` tokens that repeats its ``available`` tokens ``epochs`` times.

    Four epochs are nearly as good as fresh tokens (Muennighoff et al. 2023). Shape (domains,), at most one each.
    Raises ValueError for numbers that are not positive.
    """
    tokens = positive("available tokens", available)
    return np.minimum(1.0, float(positive("epochs", epochs)) * tokens / float(positive("the budget", budget)))


def optimal_mixture(
    law: ExponentialMixture, *, prior: ArrayLike | None = None, strength: float = 0.0, caps: Caps = None
) -> OptimalMixture:
    """Minimise Σ s_i·L_i(r) + strength·KL(r ‖ prior) over mixtures, r_j ≤ caps_j: the global optimum.

    ``prior`` defaults to equal shares; ``strength`` is in nats of loss per nat of divergence; ``caps`` are largest
    shares, one per domain, a single number, or by name (the rest uncapped). Raises ValueError for a prior that is not
    positive, a negative strength, and caps that no mixture can keep.
    """
    q, limits = _prior(prior, len(law.domains)), _limits(caps, law.domains)
    if strength < 0:
        raise ValueError(f"strength is {strength}; give zero or a positive number of nats per nat")
    r, gap = _mirror_descent(law, q, strength, limits)
    unproven = () if gap <= GAP else (f"the search stopped with up to {gap:.2g} nats left to gain",)
    return _chosen(law.domains, r, float(law(r)), q, limits, unproven)


def simulated_mixture(
    predictor: Predictor,
    prior: ArrayLike,
    *,
    domains: Sequence[str] | None = None,
    shares: ArrayLike | None = None,
    strength: float = 0.0,
    caps: Caps = None,
    concentration: float = 1.0,
    draws: int = 100_000,
    best: int = 128,
    seed: int = 0,
) -> OptimalMixture:
    """Average the ``best`` of ``draws`` mixtures drawn from Dirichlet(concentration·prior); any predictor will do.

    The objective is that of :func:`optimal_mixture`, with ``shares`` for s (equal if left out); draws beyond the caps
    are dropped, and the average of the rest keeps to them. Averaging steadies a predictor that is rough, as trees are.
    Source: Liu et al. 2024 (RegMix). Raises ValueError as :func:`optimal_mixture` does, and where fewer
    than ``best`` draws keep to the caps.
    """
    q = _prior(prior, np.size(prior))
    names = tuple(f"domain{j + 1}" for j in range(q.size)) if domains is None else tuple(domains)
    if len(names) != q.size:
        raise ValueError(f"there are {len(names)} domain names for a prior of {q.size} domains")
    limits = _limits(caps, names)
    mixtures = np.random.default_rng(seed).dirichlet(concentration * q, draws)
    mixtures = mixtures[(mixtures <= limits).all(axis=1)]
    if len(mixtures) < best:
        raise ValueError(f"only {len(mixtures)} of {draws} drawn mixtures keep to the caps; raise draws or the caps")
    losses = predictor.predict(mixtures)
    s = np.full(losses.shape[1], 1 / losses.shape[1]) if shares is None else np.asarray(shares, float)
    order = np.argsort(losses @ s + strength * _divergence(mixtures, q), kind="stable")
    r = mixtures[order[:best]].mean(axis=0)
    return _chosen(names, r, float(predictor.predict(r) @ s), q, limits, ())


def _prior(prior: ArrayLike | None, count: int) -> Array:
    q = np.full(count, 1 / count) if prior is None else positive("the prior", prior)
    if q.shape != (count,):
        raise ValueError(f"the prior has shape {q.shape}; give one share for each of {count} domains")
    return np.asarray(q / q.sum())


def _limits(caps: Caps, domains: tuple[str, ...]) -> Array:
    """Return the largest share of each domain, or say which caps leave no mixture."""
    if isinstance(caps, Mapping):
        unknown = sorted(set(caps) - set(domains))
        if unknown:
            raise ValueError(f"caps are given for {', '.join(unknown)}; the domains are {', '.join(domains)}")
        caps = [caps.get(name, 1.0) for name in domains]
    limits = np.broadcast_to(np.asarray(1.0 if caps is None else caps, float), len(domains))
    listing = ", ".join(f"{name} {limit:.3g}" for name, limit in zip(domains, limits, strict=True))
    if not (limits >= 0).all():
        raise ValueError(f"caps are shares between 0 and 1, not {listing}")
    if limits.sum() < 1 - 1e-9:
        raise ValueError(f"the caps sum to {limits.sum():.3g}, so no mixture keeps to them: {listing}; raise some")
    return np.asarray(np.minimum(limits, 1.0))


def _mirror_descent(law: ExponentialMixture, q: Array, strength: float, limits: Array) -> tuple[Array, float]:
    """Return the optimum and a proven bound of what is left to gain.

    A step minimises ⟨∇L, r⟩ + strength·KL(r ‖ prior) + KL(r ‖ last)/η within the caps, with η as large as keeps that
    model above the loss (Bauschke, Bolte & Teboulle 2017).
    """
    r, rate = within_caps(q, limits), 1.0
    for _ in range(20_000):
        slope = law.gradient(r)
        gap = _gap(slope + strength * (np.log(np.maximum(r, _TINY) / q) + 1), r, limits)
        if gap <= GAP:
            break
        height, logs = law(r), np.log(np.maximum(r, _TINY))
        while True:
            step = (logs + rate * (strength * np.log(q) - slope)) / (1 + rate * strength)
            trial = within_caps(np.exp(step - step.max()) + _TINY, limits)
            model = height + slope @ (trial - r) + _divergence(trial, np.maximum(r, _TINY)) / rate
            if law(trial) <= model + 1e-14 or rate < 1e-9:
                break
            rate /= 2
        r, rate = trial, min(rate * 1.5, 1e12)
    return r, gap


def _gap(slope: Array, r: Array, limits: Array) -> float:
    """Bound what a convex function can still lose: its linear part, from r to the best mixture within the caps."""
    order = np.argsort(slope)
    before = np.cumsum(limits[order]) - limits[order]
    filled = np.clip(1 - before, 0, limits[order])  # the cheapest domains first, each to its cap
    return float(slope @ r - slope[order] @ filled)


def within_caps(weights: Array, limits: Array) -> Array:
    """Return the mixture within the caps that is nearest to positive weights in KL: min(cap, λ·weight) for some λ.

    ``limits`` are largest shares that sum to at least one; shapes (domains,).
    """
    order = np.argsort(limits / weights)
    w, cap = weights[order], limits[order]
    left = 1 - (np.cumsum(cap) - cap)  # for the domains that are not at their caps, if these are the first so many
    scale = left / np.cumsum(w[::-1])[::-1]
    free = np.flatnonzero(scale <= cap / w)
    return np.asarray(np.minimum(limits, scale[free[0] if free.size else -1] * weights))


def _divergence(r: Array, q: Array) -> Array:
    """Give KL(r ‖ q) of mixtures (..., domains), in nats; 0·log 0 = 0."""
    return np.asarray((r * np.log(np.maximum(r, _TINY) / q)).sum(axis=-1))


def _chosen(
    domains: tuple[str, ...], r: Array, loss: float, q: Array, limits: Array, statuses: tuple[str, ...]
) -> OptimalMixture:
    largest = int(np.argmax(r))
    if r[largest] > CORNER:
        statuses += (
            f"the optimum runs to a corner: {r[largest]:.1%} {domains[largest]}, far from mixtures that were seen; "
            "cap the domains (repetition_caps) or give the KL term a strength",
        )
    bound = [name for name, share, cap in zip(domains, r, limits, strict=True) if share > cap - 1e-6 and cap < 1]
    if bound:
        statuses += (f"at their caps: {', '.join(bound)}",)
    return OptimalMixture(domains, tuple(map(float, r)), loss, float(_divergence(r, q)), statuses)
