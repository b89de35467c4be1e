"""What is cleaned and how: the corpus and the list of stages, as TOML and back.

::

    shard_bytes = 16000000

    [corpus]                       # or: corpus = "raw/", or a list of paths
    arxiv = "raw/arxiv"            # these documents' source is now "arxiv"
    web = "raw/crawl"

    [[stage]]
    name = "arxiv"
    only = ["arxiv"]               # only documents of these sources

    [[stage]]
    name = "gopher_quality"
    except = ["language=ja"]       # any field can be asked, the record's own too
    min_words = 40

Written out again, a config has every threshold of every stage, so that a folder says what was done to it even when a
later version has other defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import tomli_w

from isoflop import config as configuration
from isoflop.corpus.document import Document
from isoflop.corpus.stage import Stage


@dataclass(frozen=True)
class Source:
    """One part of the corpus: what ``corpus.documents`` is asked for, and the name its documents get, if any."""

    path: str
    name: str = ""


@dataclass(frozen=True)
class Step:
    """A stage, and the documents that it is shown; all others pass it untouched.

    ``only`` and ``exclude`` (``except`` in TOML) hold patterns: ``"arxiv*"`` matches the source, ``"language=fr"``
    any field of a document or of its record. Capitals make no difference.
    """

    stage: Stage
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, document: Document) -> bool:
        """Whether the stage is shown this document."""
        if self.only and not any(matches(pattern, document) for pattern in self.only):
            return False
        return not any(matches(pattern, document) for pattern in self.exclude)

    def table(self) -> dict[str, Any]:
        """The table of TOML that gives this step, every threshold written out."""
        scope = {"only": list(self.only), "except": list(self.exclude)}
        return (
            {"name": self.stage.name}
            | {key: patterns for key, patterns in scope.items() if patterns}
            | configuration.to_dict(self.stage)
        )


@dataclass(frozen=True)
class CleanConfig:
    """What decides the cleaned corpus, down to its bytes.

    Attributes:
        corpus: What is read, in this order.
        steps: The stages, in this order.
        shard_bytes: Bytes of text, and of what else is said of documents, after which a shard ends; memory of a worker
            grows with it, and nothing else does.
        sample: Share of the documents that is cleaned, chosen by a keyed hash of their ids, for a quick look.
        bad_fraction: Share of bad records, and of bytes in damaged files, above which the corpus is refused.
        by: Field of documents, or of their records, by which the account is broken down: "source", "language", …
        examples: Documents shown of every reason, and of what was kept and edited, in every stage.
        seed: Seed of the sample and the examples.
    """

    corpus: tuple[Source, ...]
    steps: tuple[Step, ...]
    shard_bytes: int = 16_000_000
    sample: float = 1.0
    bad_fraction: float = 0.01
    by: str = "source"
    examples: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.corpus:
            raise ValueError("there is no corpus to clean: give a path")
        if not self.steps:
            raise ValueError("there is nothing to do: give at least one [[stage]], or a preset")
        if self.shard_bytes < 1:
            raise ValueError(f"shard_bytes is {self.shard_bytes}: it must be positive")
        if not 0 < self.sample <= 1:
            raise ValueError(f"sample is {self.sample}: it must be above 0 and at most 1")
        if not 0 <= self.bad_fraction <= 1:
            raise ValueError(f"bad_fraction is {self.bad_fraction}: it must be in 0…1")
        if self.examples < 0:
            raise ValueError(f"examples is {self.examples}: it must not be negative")

    @property
    def labels(self) -> list[str]:
        """A name for every step that is unique among them and sorts in their order: ``"03-minhash"``."""
        return [f"{number:02d}-{step.stage.name}" for number, step in enumerate(self.steps, 1)]

    def group(self, document: Document) -> str:
        """What the account counts a document under."""
        return value_of(document, self.by)

    def has(self, name: str) -> bool:
        """Whether a stage of this name is among the steps."""
        return any(step.stage.name == name for step in self.steps)

    def table(self) -> dict[str, Any]:
        """As plain values, the way TOML spells them."""
        named = all(source.name for source in self.corpus)
        paths = [source.path for source in self.corpus]
        return {
            "shard_bytes": self.shard_bytes,
            "sample": self.sample,
            "bad_fraction": self.bad_fraction,
            "by": self.by,
            "examples": self.examples,
            "seed": self.seed,
            "corpus": {source.name: source.path for source in self.corpus} if named else paths,
            "stage": [step.table() for step in self.steps],
        }

    def dumps(self) -> str:
        """As TOML."""
        return tomli_w.dumps(self.table())


def matches(pattern: str, document: Document) -> bool:
    """Whether a pattern of ``only`` or ``except`` is true of a document."""
    field, equals, glob = pattern.partition("=")
    if not equals:
        field, glob = "source", pattern
    return fnmatchcase(value_of(document, field).casefold(), glob.casefold())


def value_of(document: Document, field: str) -> str:
    """A field of a document, or of the record that it was; empty where there is none."""
    return str(getattr(document, field) if field in Document._fields else document.extra.get(field, ""))
