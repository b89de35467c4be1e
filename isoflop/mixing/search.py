"""The search: lay out the proxies, train and measure them on all processors, choose, write the answer.

Everything is read from the directory (``layout``), so the same call goes on wherever the last one stopped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isoflop import config as configuration
from isoflop.files import locked, write_json, write_text
from isoflop.laws.fitting.prediction import Prediction
from isoflop.mixing.answer import Answer, answer
from isoflop.mixing.layout import Proxy, lay_out, mixture, proxies
from isoflop.mixing.settings import MixConfig, Weights
from isoflop.progress import Report, silent
from isoflop.sweeps.executor import Hire, Pool
from isoflop.tokens.mixture import Mixture

SUMMARY = "summary.json"
MIXTURE = "mixture.toml"


@dataclass(frozen=True)
class Chosen:
    """What ``mixture.toml`` holds: the ``[mixture]`` of a run's config."""

    mixture: Mixture


def search(
    config: MixConfig, folder: Path, report: Report = silent, workers: int | None = None, hire: Hire = Pool.here
) -> dict[str, Any]:
    """Search for a mixture in ``folder``, or go on with it; returns the summary, which is written there too.

    ``hire`` says where the proxies are trained.

    Raises Interrupted after a Ctrl-C or SIGTERM (the same call goes on), RuntimeError when a worker fails, ValueError
    when the folder holds another search or its proxies do not tell the domains apart.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        lay_out(config, folder)
        tried = train_all(folder, report, workers, hire)
        found = summary(config, tried, *chosen(config, tried))
        best = {source["name"]: source["weight"] for source in found["sources"]}
        weights = np.array([best[name] for name in config.names])
        write_text(folder / MIXTURE, configuration.dumps(Chosen(mixture(config, weights, up=folder.resolve()))))
        write_json(folder / SUMMARY, found)
    return found


def train_all(folder: Path, report: Report = silent, workers: int | None = None, hire: Hire = Pool.here) -> list[Proxy]:
    """Train and measure every proxy that is laid out in ``folder`` and not done, and return all of them."""
    crew, tried = hire("isoflop.mixing.worker", folder, workers), proxies(folder)
    count = min(crew.count, len(tried))

    def pending() -> list[str]:
        return [
            f"{lane}-of-{count}" for lane in range(count) if any(proxy.losses is None for proxy in tried[lane::count])
        ]

    crew.perform(pending, lambda: report("proxies", *tokens_done(tried)))
    return tried


def tokens_done(tried: list[Proxy]) -> tuple[float, float]:
    """Tokens that all proxies have been trained on so far, and in all."""
    total = tried[0].run.config.schedule.tokens * len(tried)
    return float(sum(proxy.run.tokens_so_far() for proxy in tried)), float(total)


def chosen(config: MixConfig, tried: list[Proxy]) -> tuple[Answer, Weights, Weights]:
    """The answer, and what it was drawn from: shares (proxies, domains) and losses (proxies, held-out texts)."""
    measured = [proxy.losses for proxy in tried]
    losses = np.array([[row[text.name] for text in config.held_out] for row in measured if row is not None])
    weights = np.array([proxy.weights(config.names) for proxy in tried])
    return answer(config, weights, losses), weights, losses


def summary(config: MixConfig, tried: list[Proxy], found: Answer, weights: Weights, losses: Weights) -> dict[str, Any]:
    """All of the answer as plain values."""
    return {
        "sources": sources(config, found),
        "held_out": [
            {"name": text.name, "share": text.share, "natural": a, "mixture": b}
            for text, a, b in zip(
                config.held_out,
                found.fit.law.predict(config.natural).tolist(),
                found.fit.law.predict(found.weights).tolist(),
                strict=True,
            )
        ],
        "loss": found.optimum.loss,
        "divergence": found.optimum.divergence,
        "gains": {one.reference: interval(one.predicted) | {"optimism": one.optimism} for one in found.gains},
        "predictors": [
            {
                "name": one.name,
                "spearman_left_out": None if math.isnan(one.spearman) else one.spearman,
                "error_left_out": one.error,
                "left_out": one.left_out.tolist(),
                "weights": one.weights,
            }
            for one in found.opinions
        ],
        "proxies": [
            {"name": proxy.name, "weights": r.tolist(), "losses": y.tolist(), "measured": m, "fitted": p}
            for proxy, r, y, m, p in zip(
                tried, weights, losses, found.measured.tolist(), found.predicted.tolist(), strict=True
            )
        ],
        "law": found.fit.law.to_json(),
        "settings": configuration.to_dict(config),
        "statuses": list(found.statuses),
    }


def sources(config: MixConfig, found: Answer) -> list[dict[str, Any]]:
    """The chosen weight of each domain, how sure it is, what it is compared with, and the passes it means."""
    columns = zip(
        config.domains,
        found.weights.tolist(),
        *found.spread.tolist(),
        config.natural.tolist(),
        config.caps.tolist(),
        config.epochs_of(found.weights).tolist(),
        config.limits,
        strict=True,
    )
    return [
        {
            "name": domain.name,
            "data": domain.data,
            "available": domain.available,
            "weight": weight,
            "interval": [low, high],
            "natural": natural,
            "cap": cap,
            "epochs": epochs,
            "proxy_tokens": limit,
        }
        for domain, weight, low, high, natural, cap, epochs, limit in columns
    ]


def interval(predicted: Prediction) -> dict[str, Any]:
    """A prediction as plain values."""
    return {
        "value": float(predicted.value),
        "mean_interval": [float(end) for end in predicted.confidence],
        "run_interval": [float(end) for end in predicted.interval],
        "level": predicted.level,
    }
