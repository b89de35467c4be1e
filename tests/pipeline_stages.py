"""Small stages that the tests of the pipeline clean with, in a module that worker processes can import."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import xxhash

from isoflop.corpus.document import Document
from isoflop.corpus.pipeline import CleanConfig, Source, Step, clean
from isoflop.corpus.pipeline.local import LocalPool
from isoflop.corpus.stage import Dropped, Stage, Verdict
from isoflop.files import write_json


@dataclass(frozen=True)
class Short(Stage):
    """Drops short documents; ``slow`` seconds a document, so that there is something to interrupt."""

    name: ClassVar[str] = "short"
    characters: int = 40
    slow: float = 0.0

    def judge_one(self, document: Document) -> Verdict:
        time.sleep(self.slow)
        size = len(document.text)
        return Dropped(document, "too short", f"{size} characters") if size < self.characters else document


@dataclass(frozen=True)
class Mask(Stage):
    """Takes a word out of texts."""

    name: ClassVar[str] = "mask"
    word: str = "secret"
    mask: str = "***"

    def judge_one(self, document: Document) -> Verdict:
        return document._replace(text=document.text.replace(self.word, self.mask))


@dataclass(frozen=True)
class Copies(Stage):
    """Drops all but the first of equal texts: a stage that must have seen everything."""

    name: ClassVar[str] = "copies"
    whole: ClassVar[bool] = True
    prepared: ClassVar[str] = "ready"

    def prepare(self, folder: Path) -> None:
        write_json(folder / "prepared.json", self.prepared)

    def survey(self, documents: Sequence[Document], shard: int, folder: Path) -> None:
        hashes = [xxhash.xxh3_64_hexdigest(document.text.encode()) for document in documents]
        write_json(folder / f"hashes-{shard}.json", hashes)

    def combine(self, shards: int, folder: Path) -> None:
        assert json.loads((folder / "prepared.json").read_text()) == self.prepared
        seen: set[str] = set()
        for shard in range(shards):
            hashes = json.loads((folder / f"hashes-{shard}.json").read_text())
            first = []
            for each in hashes:
                first.append(each not in seen)
                seen.add(each)
            write_json(folder / f"first-{shard}.json", first)

    def judge(self, documents: Sequence[Document], shard: int, folder: Path) -> list[Verdict]:
        first = json.loads((folder / f"first-{shard}.json").read_text())
        return [d if one else Dropped(d, "copy") for d, one in zip(documents, first, strict=True)]


@dataclass(frozen=True)
class Fails(Stage):
    """Fails at a document that holds the word, or kills its process."""

    name: ClassVar[str] = "fails"
    word: str = "boom"
    kill: bool = False

    def judge_one(self, document: Document) -> Verdict:
        if self.word in document.text:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyError(self.word)
        return document


def write_corpus(folder: Path, documents: int = 120, seed: int = 0) -> Path:
    """Three files of documents, some short, some copies of each other, some with a secret."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    words = [f"{a}{b}" for a in ("ba", "ko", "ri", "tu") for b in ("lan", "mer", "sig", "vot")]
    for name in ("wiki", "web", "code"):
        with (folder / f"{name}.jsonl").open("w") as file:
            for number in range(documents // 3):
                text = " ".join(rng.choice(words, rng.integers(3, 40)))
                text += " secret" * bool(rng.random() < 0.2)
                text = "the same page again, and again, and again" if rng.random() < 0.1 else text
                record = {"text": text, "id": f"{name}-{number}", "source": name, "domain": name[0]}
                file.write(json.dumps(record) + "\n")
    return folder


def configured(corpus: Path, *, shard_bytes: int = 2000, slow: float = 0.0, seed: int = 0) -> CleanConfig:
    """A cleaning with verdicts before and after a stage that sees everything, twice."""
    steps = (Step(Short(slow=slow)), Step(Copies()), Step(Mask(), only=("w*",)), Step(Copies()))
    return CleanConfig((Source(str(corpus)),), steps, shard_bytes, seed=seed)


if __name__ == "__main__":
    clean(configured(Path(sys.argv[1]), slow=0.002), Path(sys.argv[2]), pool=lambda job: LocalPool(job, 2))
