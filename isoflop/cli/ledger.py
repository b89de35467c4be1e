"""``isoflop ledger``: what a mixture's weights mean in tokens and passes over each source, and how far they reach."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from isoflop.tokens.ledger import Ledger
from isoflop.tokens.mixture import Mixture, Source

DESCRIPTION = """Tells how often a run on a mixture reads each source, and the largest run that reads none more often
than a cap. The mixture is a run's (its directory or config file), or given as NAME=WEIGHT:TOKENS for each source.

examples:
  isoflop ledger runs/mine                                        the run's sources, its total tokens
  isoflop ledger mine.toml --tokens 2e9 --cap 4
  isoflop ledger web=67:853e9 c4=15:198e9 books=4.5:28e9 --tokens 1.4e12
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop ledger``.

    Attributes:
        mixture: A run's directory, its config file, or sources as NAME=WEIGHT:TOKENS.
        tokens: Tokens of the run; by default the config's, or those at the cap.
        cap: Most passes over any source, for the largest run.
        json: Print JSON.
    """

    mixture: tyro.conf.Positional[tuple[str, ...]]
    tokens: float | None = None
    cap: float = 4.0
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop ledger", description=DESCRIPTION)
    if not a.mixture:
        raise ValueError("which mixture? give a run's directory or config file, or sources as NAME=WEIGHT:TOKENS")
    if not 0 < a.cap < math.inf:
        raise ValueError(f"--cap is {a.cap:g}: it must be above 0")
    if a.tokens is not None and not 0 < a.tokens < math.inf:
        raise ValueError(f"--tokens is {a.tokens:g}: it must be above 0")
    ledger, planned = typed(a.mixture) if "=" in a.mixture[0] else configured(a.mixture)
    largest, scarce = ledger.largest(a.cap)
    total = a.tokens if a.tokens is not None else planned or largest
    if not 0 < total < math.inf:
        raise ValueError(f"a run of {total} tokens: give --tokens")
    entries = ledger.entries(total)
    if a.json:
        found = {"cap": a.cap, "largest": largest if largest < math.inf else None, "scarce": scarce}
        print(json.dumps({"tokens": total, "sources": [asdict(entry) for entry in entries], **found}))
        return
    print(text(ledger, total))
    reach = f"{largest:,.0f} tokens, where {scarce} ends" if largest < math.inf else "as long as it likes"
    print(f"at most {a.cap:g} passes over every source: a run of {reach}")


def text(ledger: Ledger, total: float) -> str:
    """The ledger as a table, and a sentence for each source that is read too often."""
    from isoflop.cli.tables import aligned

    head = ("source", "share", "available", "drawn", "epochs")
    rows = [
        (entry.name, f"{entry.share:.4f}", f"{entry.available:,.0f}", f"{entry.drawn:,.0f}", f"{entry.epochs:.2f}")
        for entry in ledger.entries(total)
    ]
    beyond = [
        f"{entry.name} is read {entry.epochs:.3g} times, more than max_epochs = {ledger.mixture.max_epochs:g}"
        for entry in ledger.entries(total)
        if entry.epochs > ledger.mixture.max_epochs
    ]
    return "\n".join([aligned([head, *rows], indent=""), *beyond])


def typed(words: tuple[str, ...]) -> tuple[Ledger, None]:
    """The ledger of sources given on the command line."""
    weights, available = {}, {}
    for word in words:
        name, _, rest = word.partition("=")
        weight, _, tokens = rest.partition(":")
        if name in weights:
            raise ValueError(f"the source {name!r} is given twice")
        try:
            weights[name], available[name] = float(weight), float(tokens)
        except ValueError:
            raise ValueError(f"{word!r} is not NAME=WEIGHT:TOKENS, as web=67:853e9") from None
    sources = tuple(Source(name, name) for name in weights)
    return Ledger(Mixture.constant(sources, weights), available), None


def configured(words: tuple[str, ...]) -> tuple[Ledger, float]:
    """The ledger of a run's config, and the run's tokens."""
    from isoflop import config as configuration
    from isoflop.tokens.blended import open_sources
    from isoflop.training.config import TrainConfig

    if len(words) > 1:
        raise ValueError(f"one run at a time, or sources as NAME=WEIGHT:TOKENS, not {' '.join(words)}")
    path = Path(words[0])
    file = path / "config.toml" if path.is_dir() else path
    config = configuration.load(TrainConfig, file)
    return Ledger.of(config.blends, open_sources(config.sources, file.parent)), config.schedule.tokens
