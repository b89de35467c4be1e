"""What each predictor says of proxies that it has not seen, and the mixture that it would choose.

The exponential law, RegMix's linear regression and, where LightGBM is installed, its trees each predict every proxy
from all the others. Leaving one out costs a refit per proxy: 32 proxies take the law a second, the trees several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from isoflop.laws.fitting.mixture import Predictor, fit_mixture, regress_on_proxies, spearman
from isoflop.laws.fitting.optimal_mixture import optimal_mixture, simulated_mixture
from isoflop.laws.forms.mixture import ExponentialMixture
from isoflop.mixing.settings import MixConfig, Weights

Learn = Callable[[Weights, Weights], Predictor]
"""From shares (proxies, domains) and the loss to be lowered (proxies,) to a predictor."""

FEWEST_FOR_TREES = 40
"""Proxies below which LightGBM's default leaves of 20 cannot split twice."""


@dataclass(frozen=True)
class Opinion:
    """A predictor: its predictions of left-out proxies (proxies,), how they rank and err, and its own choice.

    ``spearman`` is NaN where predictions do not vary; ``error`` is the root mean square in nats; ``weights`` are None
    where too few simulated mixtures keep to the caps.
    """

    name: str
    left_out: Weights
    spearman: float
    error: float
    weights: tuple[float, ...] | None


def opinions(config: MixConfig, weights: Weights, losses: Weights) -> tuple[Opinion, ...]:
    """All predictors' opinions, the law's first; losses have shape (proxies, held-out texts)."""
    return tuple(
        opinion(config, name, learn, weights, loss) for name, learn, loss in predictors(config, weights, losses)
    )


def predictors(config: MixConfig, weights: Weights, losses: Weights) -> Iterator[tuple[str, Learn, Weights]]:
    """Names of predictors, how they learn, and from which losses: the law knows the texts apart, the others the sum."""
    wanted = config.shares > 0
    overall = losses @ config.shares

    def law(r: Weights, y: Weights) -> Predictor:
        return fit_mixture(r, y, domains=config.names, shares=tuple(config.shares[wanted])).law

    yield "the law", law, losses[:, wanted]
    yield "the linear regression", lambda r, y: regress_on_proxies(r, y, "linear"), overall[:, None]
    if len(weights) >= FEWEST_FOR_TREES and trees_at_hand():
        yield "boosted trees", lambda r, y: regress_on_proxies(r, y, "trees"), overall[:, None]


def trees_at_hand() -> bool:
    """Whether LightGBM is installed."""
    import importlib.util

    return importlib.util.find_spec("lightgbm") is not None


def opinion(config: MixConfig, name: str, learn: Learn, weights: Weights, losses: Weights) -> Opinion:
    """Leave every proxy out once; ``losses`` are of the texts with a share (proxies, texts), or their sum."""
    shares = config.shares[config.shares > 0] if losses.shape[1] > 1 else np.ones(1)
    rows = np.arange(len(weights))
    others = (learn(weights[rows != i], losses[rows != i]) for i in rows)
    left_out = np.array([float(one.predict(r) @ shares) for one, r in zip(others, weights, strict=True)])
    measured = losses @ shares
    error = float(np.sqrt(np.mean((left_out - measured) ** 2)))
    return Opinion(name, left_out, spearman(left_out, measured), error, choice(config, learn(weights, losses), shares))


def choice(config: MixConfig, predictor: Predictor, shares: Weights) -> tuple[float, ...] | None:
    """The mixture that a predictor would choose under the same caps and KL term."""
    prior, strength, caps = config.prior_weights, config.strength, config.caps
    if isinstance(predictor, ExponentialMixture):
        return optimal_mixture(predictor, prior=prior, strength=strength, caps=caps).weights
    try:
        return simulated_mixture(
            predictor,
            prior,
            domains=config.names,
            shares=shares,
            strength=strength,
            caps=caps,
            concentration=len(config.names),
            seed=config.seed,
        ).weights
    except ValueError:  # the caps leave too small a part of the simplex for random mixtures to fall into
        return None
