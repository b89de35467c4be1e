"""Which mixtures the proxies try: the natural and the uniform one, those towards and nearly without each domain, and
quasi-random ones.

The drawn ones follow RegMix (Liu et al. 2024, arXiv 2407.01492, section 3.1): Dirichlet distributions around the
prior, flattened by a temperature, of varying concentration. They come from a Sobol sequence, shifted by a key, through
the quantiles of gamma variables, so that few mixtures cover the simplex evenly. All are drawn to within the caps on
repetition, beyond which no answer can lie, and hold a little of every domain: at the edge of the simplex, where a
domain is missing altogether, losses rise far more steeply than any mixing law. Instant.
"""

from __future__ import annotations

import numpy as np

from isoflop.keys import derive_key
from isoflop.laws.fitting.optimal_mixture import within_caps
from isoflop.mixing.settings import MixConfig, Weights

TOWARDS = 0.75
"""How far a mixture "towards" a domain goes from the prior to that domain alone."""


def design(config: MixConfig) -> dict[str, Weights]:
    """The mixtures of all proxies by name, shape (domains,) each; within the caps, in the order to train them."""
    found = {"natural": config.natural, "uniform": config.uniform}
    prior, corners = config.prior_weights, np.eye(len(config.names))
    for name, corner in zip(config.names, corners, strict=True):
        found[f"towards-{name}"] = TOWARDS * corner + (1 - TOWARDS) * prior
    for name, corner in zip(config.names, corners, strict=True):
        others = prior * (1 - corner)
        found[f"without-{name}"] = (1 - config.least) * others / others.sum() + config.least * prior
    count = max(0, config.proxies - len(found))
    found |= {f"drawn-{i:03d}": weights for i, weights in enumerate(drawn(config, count))}
    chosen = list(found.items())[: config.proxies]
    return {name: within_caps(weights, config.caps) for name, weights in chosen}


def drawn(config: MixConfig, count: int) -> Weights:
    """Quasi-random mixtures, shape (count, domains): the first ones do not depend on how many there are."""
    from scipy.special import gammaincinv
    from scipy.stats.qmc import Sobol

    domains = len(config.names)
    shift = np.random.default_rng(derive_key(config.seed, "mixtures", *config.names)).random(domains + 1)
    sobol = Sobol(domains + 1, scramble=False).random_base2(max(count, 1).bit_length())
    points = np.clip((sobol[:count] + shift) % 1, 1e-9, 1 - 1e-9)
    centre = config.prior_weights**config.temperature
    low, high = np.log(config.concentration)
    strength = domains * np.exp(low + (high - low) * points[:, -1:])
    heights = gammaincinv(strength * centre / centre.sum(), points[:, :-1]) + 1e-300
    mixtures = heights / heights.sum(axis=1, keepdims=True)
    return np.asarray((1 - config.least) * mixtures + config.least * config.prior_weights)
