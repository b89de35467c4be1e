"""A small model to align, pre-trained here: text of a corpus, and worked problems of the rounds' kinds.

What somebody with one laptop has no released checkpoint for. The mixture is one declared blend, the recipe that of any
run of this size (``planning.recipe``), so the base is a run like all others. Problems are of the training side of the
split (``problems.problem``), written as plain text, a question and its worked solution; none of those that the rounds
measure on is among them, though some that they ask are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isoflop.files import write_text
from isoflop.planning.ladder import shape_for
from isoflop.planning.recipe import recipe
from isoflop.posttraining.pools import Pool, drawn
from isoflop.progress import Report, silent
from isoflop.tokens.mixture import Mixture, Source
from isoflop.tokens.prepare import PrepareConfig, prepare
from isoflop.training.config import TrainConfig
from isoflop.training.launch import train_here

BYTES_PER_TOKEN = 3.0
"""Text prepared for a token that is read, so that little is read twice."""


@dataclass(frozen=True)
class Base:
    """A model to pre-train.

    Attributes:
        corpus: what ``isoflop prepare`` reads: a path, or "python" for the sources of this Python.
        parameters: size, head included; the nearest member of the ladder is taken.
        tokens: length of the run.
        vocab: ids of the tokenizer, which is trained on the corpus.
        context: longest text in tokens.
        share: of the tokens that are worked problems.
        worked: different problems among those at most.
    """

    corpus: str = "python"
    parameters: float = 5e5
    tokens: float = 4e6
    vocab: int = 1024
    context: int = 128
    share: float = 0.3
    worked: int = 20_000

    def __post_init__(self) -> None:
        """Refuse shares and numbers that are none."""
        if not 0 <= self.share < 1 or self.worked < 1 or not self.tokens > 0:
            raise ValueError(f"a base needs tokens, a share of problems from 0 to below 1, and some of them: {self}")


def pretrain(base: Base, pools: Sequence[Pool], seed: int, path: Path, report: Report = silent) -> Path:
    """Train the base in the folder ``path``, or go on; returns its run's directory, which is a model."""
    text = path / "tokens" / "text"
    config = PrepareConfig(base.corpus, base.vocab, max_bytes=int(BYTES_PER_TOKEN * base.tokens))
    prepare(config, text, report)
    sources, weights = [Source("text", "../tokens/text")], {"text": 1.0}
    if base.share and pools:
        documents = path / "problems" / "problems.jsonl"
        write_worked(base, pools, seed, documents)
        tokenizer = str((text / "tokenizer.json").resolve())
        prepare(PrepareConfig(str(documents.parent), base.vocab, tokenizer=tokenizer), path / "tokens/problems", report)
        sources.append(Source("problems", "../tokens/problems"))
        weights = {"text": 1 - base.share, "problems": base.share}
    train_here(run_config(base, tuple(sources), weights, seed), path / "run", report)
    return path / "run"


def run_config(base: Base, sources: tuple[Source, ...], weights: dict[str, float], seed: int) -> TrainConfig:
    """The run that the base is."""
    shape = shape_for(base.parameters, base.vocab, context=base.context)
    course = recipe(shape, base.tokens)
    mixture = Mixture.constant(sources, weights)
    return TrainConfig(shape, course.schedule, course.batch, mixture=mixture, micro_tokens=4096, seed=seed)


def write_worked(base: Base, pools: Sequence[Pool], seed: int, path: Path) -> None:
    """Write problems of the training side with their solutions as plain text, a document each."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    problems = drawn(pools, base.worked, seed, "training")
    write_text(path, "".join(json.dumps({"text": f"{p.prompt}\n{p.solution}\n"}) + "\n" for p in problems))
