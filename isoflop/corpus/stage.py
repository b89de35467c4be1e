"""What a cleaning stage is: a few thresholds, and a verdict on every document.

A stage is a frozen dataclass, its fields the thresholds with the defaults of the paper that its docstring cites, so
that a table of a TOML file becomes one. It says of each document that it stays, perhaps with another text, or that it
goes, and why. The pipeline cuts a corpus into shards of documents and calls, in this order and each in any process::

    stage.prepare(folder)                        once, before any shard: train a model, index benchmarks
    stage.survey(documents, shard, folder)       for every shard, only if ``whole``: remember what must be compared
    stage.combine(shards, folder)                once, only if ``whole``: compare, and write what was decided
    stage.judge(documents, shard, folder)        for every shard

``folder`` is the stage's own. Whatever a method leaves there must be written atomically and depend on its arguments
alone, because a killed pipeline calls it again; and a verdict must depend on nothing but the corpus and the config:
never on the number of workers, never on which shard came first in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from isoflop.corpus.document import Document


@dataclass(frozen=True)
class Dropped:
    """A document that goes: ``reason`` is what is counted, ``detail`` the figure that decided."""

    document: Document
    reason: str
    detail: str = ""


Verdict = Document | Dropped


@dataclass(frozen=True)
class Stage:
    """Base of all stages. One that decides document by document overrides ``judge_one`` and nothing else."""

    name: ClassVar[str]
    """What configs and reports call it."""
    whole: ClassVar[bool] = False
    """Whether it must have seen the whole corpus before it can judge."""
    inputs: ClassVar[tuple[str, ...]] = ()
    """The fields that are paths of files or folders: a cleaning notices when what they hold changes."""

    def prepare(self, folder: Path) -> None:
        """Do once whatever needs no document of the corpus."""

    def survey(self, documents: Sequence[Document], shard: int, folder: Path) -> None:
        """Remember in ``folder`` what must be compared of one shard."""

    def combine(self, shards: int, folder: Path) -> None:
        """Decide, from the surveys of shards 0 … shards − 1."""

    def judge(self, documents: Sequence[Document], shard: int, folder: Path) -> list[Verdict]:
        """A verdict for each document of a shard, in their order; the same documents that were surveyed."""
        return [self.judge_one(document) for document in documents]

    def judge_one(self, document: Document) -> Verdict:
        """A verdict that depends on one document alone."""
        raise NotImplementedError
