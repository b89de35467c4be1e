"""A search on disk: ``mix.toml`` and, laid out at the start, the directory and config of every proxy.

    mix.toml                    what was asked
    proxies/<mixture>/          a run directory each, and losses.json: what it was measured at
    summary.json, mixture.toml  the answer

From then on the directories are the design: a search that has begun is finished with the mixtures it began with.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isoflop import config as configuration
from isoflop.files import write_text
from isoflop.mixing.design import design
from isoflop.mixing.settings import MixConfig, Weights
from isoflop.planning.ladder import shape_for
from isoflop.planning.recipe import recipe
from isoflop.tokens.mixture import Blend, Mixture, Source
from isoflop.training.config import TrainConfig
from isoflop.training.run import Run

CONFIG = "mix.toml"
LOSSES = "losses.json"


@dataclass(frozen=True)
class Proxy:
    """One proxy: the name of its mixture and its run directory."""

    name: str
    run: Run

    @property
    def losses(self) -> dict[str, float] | None:
        """Nats per token on each held-out text; None while it has not been measured."""
        path = self.run.path / LOSSES
        return {name: float(value) for name, value in json.loads(path.read_text()).items()} if path.exists() else None

    def weights(self, domains: tuple[str, ...]) -> Weights:
        """Its shares of the domains, in their order."""
        mixture = self.run.config.mixture
        assert mixture is not None
        return np.array([mixture.final[name] for name in domains])


def lay_out(config: MixConfig, folder: Path) -> None:
    """Make the directories of a search's proxies, or check that they are those of this config.

    Raises ValueError when the directory holds another search.
    """
    path = folder / CONFIG
    if path.exists():
        if changed := configuration.difference(configuration.load(MixConfig, path), config):
            raise ValueError(f"{folder} holds another search ({changed}); use another directory, or the old value")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, weights in design(config).items():
        Run(folder / "proxies" / name).start(proxy_config(config, weights))
    write_text(path, configuration.dumps(config))


def proxy_config(config: MixConfig, weights: Weights) -> TrainConfig:
    """The run of one proxy: the rules of every run, its mixture, and its part of each domain's tokens."""
    shape = shape_for(config.parameters, config.vocab, context=config.context)
    plan = recipe(shape, config.tokens)
    return TrainConfig(
        shape=shape,
        mixture=mixture(config, weights, config.limits, "../.."),
        schedule=plan.schedule,
        batch=plan.batch,
        seed=config.seed,
        validate_times=1,
        validation_tokens=config.context,  # the worker measures what the search asks for
    )


def mixture(config: MixConfig, weights: Weights, limits: tuple[int, ...] | None = None, up: str | Path = "") -> Mixture:
    """The weights as a run's mixture; ``up`` leads from the run's directory to where the domains' folders begin."""
    sources = tuple(
        Source(domain.name, os.path.normpath(Path(up) / domain.data), limit)  # joined to an absolute path, that path
        for domain, limit in zip(config.domains, limits or [None] * len(config.domains), strict=True)
    )
    shares = dict(zip(config.names, map(float, weights), strict=True))
    return Mixture(sources, (Blend(0, shares),), max_epochs=config.epochs)


def proxies(folder: Path) -> list[Proxy]:
    """The proxies of a search as its directories have them, by name.

    Raises ValueError when there is no search there.
    """
    if not (folder / CONFIG).exists():
        raise ValueError(f"{folder} holds no search for a mixture (no {CONFIG}): name the directory of one")
    runs = sorted(path.parent for path in folder.glob("proxies/*/config.toml"))
    return [Proxy(path.name, Run(path)) for path in runs]
