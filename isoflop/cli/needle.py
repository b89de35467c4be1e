"""``isoflop needle``: whether a run finds a fact far back in its context."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from isoflop.training.needle import Score

DESCRIPTION = """Hides a fact in held-out text at several depths of several lengths, asks for it at the end, and shows
how often the run's model picks the right word among those it could be, and how often greedy decoding would write it.

With --make, writes documents instead that teach it: pieces of a corpus with facts that come up twice, as one more
source for the long-context stage of a model too small to learn looking up from prose. A result of such a model is one
of a model that practised.

examples:
  isoflop needle runs/mine
  isoflop needle runs/mine --lengths 512,1024 --trials 50 --averaged
  isoflop needle corpus/ --make recall.jsonl.zst --characters 4000
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop needle``.

    Attributes:
        run: Directory of the run, or with --make a corpus.
        lengths: Lengths in tokens, with commas; by default every context of the run that has room for a test.
        depths: Depths, 0 for the beginning to 1 for the end, with commas.
        trials: Tests at each length and depth.
        averaged: Test the averaged weights instead of the last.
        seed: Chooses other texts, names and words.
        make: File of documents to write (.jsonl.zst).
        characters: Characters of a document to write.
        facts: Facts in it; by default one for every 300 characters.
        json: Print JSON.
    """

    run: tyro.conf.Positional[Path]
    lengths: str | None = None
    depths: str = "0,0.25,0.5,0.75,1"
    trials: int = 20
    averaged: bool = False
    seed: int = 0
    make: Path | None = None
    characters: int = 4000
    facts: int | None = None
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop needle", description=DESCRIPTION)
    if a.make is not None:
        make(a, a.make)
        return
    scores = test(a)
    if a.json:
        print(json.dumps([score.to_json() for score in scores]))
    else:
        print(text(scores))


def make(a: Arguments, out: Path) -> None:
    """Write documents that teach looking up."""
    from isoflop.corpus import documents
    from isoflop.corpus.writer import write_documents
    from isoflop.tokens.recall import recall_documents

    facts = a.facts or max(1, a.characters // 300)
    write_documents(out, recall_documents(documents(str(a.run)), a.characters, facts, a.seed))
    print(out)


def test(a: Arguments) -> list[Score]:
    """The scores of a run, length by length."""
    import torch

    from isoflop.inference.load import load_model
    from isoflop.tokens.blended import open_sources
    from isoflop.training.needle import Needles
    from isoflop.training.ranks import Ranks
    from isoflop.training.run import Run

    config, depths = Run(a.run).config, numbers(a.depths, float)
    if a.trials < 1 or any(not 0 <= depth <= 1 for depth in depths):
        raise ValueError("at least one trial, at depths from 0 to 1")
    source = config.sources[0]
    dataset = open_sources((source,), a.run)[source.name]
    stages = {stage.value for stage in config.contexts.stages(0, config.schedule.tokens)}
    lengths = numbers(a.lengths, int) if a.lengths else sorted(length for length in stages if length >= SHORTEST)
    model, _ = load_model(a.run, averaged=a.averaged, context=config.shape.context)
    scores = []
    with torch.no_grad():
        for length in map(int, lengths or [config.shape.context]):
            tests = Needles.of(dataset, length, a.trials, depths, a.seed)
            scores += tests.measure(model, Ranks(), max(length, config.micro_tokens))
    return scores


SHORTEST = 64
"""Tokens of a context below which a run's stages are not tested unless asked for: the fact itself has about thirty."""


def numbers(text: str, kind: type[int] | type[float]) -> list[int] | list[float]:
    """Numbers with commas between them."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{text!r} are not numbers with commas between them") from None


def text(scores: list[Score]) -> str:
    """The table: lengths down, depths across; chosen with its 95% interval, and exact."""
    from isoflop.cli.tables import aligned

    rows = [
        (
            f"{score.length:,}",
            f"{score.depth:.0%}",
            f"{score.chosen / score.trials:.0%}",
            f"{score.interval[0]:.0%} … {score.interval[1]:.0%}",
            f"{score.exact / score.trials:.0%}",
            f"{score.nats:.2f}",
        )
        for score in scores
    ]
    head = ("length", "depth", "chosen", "95%", "exact", "nats/answer")
    chance = f"chosen among {scores[0].choices} words, by chance {1 / scores[0].choices:.0%}; exact: written greedily"
    return f"{aligned([head, *rows], indent='')}\n{chance}"
