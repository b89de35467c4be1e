"""The corpus into shards of documents: pass 0, the one reading of whatever the user has.

One process streams, so its memory is one shard, and its speed (20 MB of text a second of a busy core, a third each for
reading, JSON and compression) is the limit where many cores do little with each document. Left out: reading files side
by side. A killed cutting begins again at the front, because most formats can only be read from there, but writes no
shard twice; each is compared instead, so that a corpus that changed in between is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import xxhash

from isoflop.corpus import documents
from isoflop.corpus.document import CorpusError, Document, Reading
from isoflop.corpus.pipeline.account import MOST_GROUPS, Tally, largest
from isoflop.corpus.pipeline.config import CleanConfig, Source
from isoflop.corpus.pipeline.layout import Job
from isoflop.corpus.writer import write_documents
from isoflop.files import write_json, write_text
from isoflop.keys import derive_key
from isoflop.progress import Report

QUARANTINE = 10_000
"""The most bad records and damaged files whose places are written down; all of them are counted."""


@dataclass
class Cut:
    """What cutting found: the number of shards, what is in them by group, and the records and files that are not."""

    shards: int = 0
    total: Tally = field(default_factory=Tally)
    groups: dict[str, Tally] = field(default_factory=dict)
    records: int = 0
    bad: int = 0
    empty: int = 0
    damaged: int = 0
    damaged_bytes: int = 0
    links: int = 0
    beyond_sample: int = 0

    @classmethod
    def load(cls, job: Job) -> Cut | None:
        """What a complete cutting left, if there is one."""
        path = job.pass_folder(0) / "complete.json"
        if not path.exists():
            return None
        plain = json.loads(path.read_text(encoding="utf-8"))
        plain["total"] = Tally(**plain["total"])
        plain["groups"] = {name: Tally(**tally) for name, tally in plain["groups"].items()}
        return cls(**plain)


def cut(job: Job, report: Report, stop: Callable[[], None]) -> Cut:
    """Cut the corpus of a job, once. ``stop`` is called between shards and may raise to end it. Raises CorpusError."""
    done = Cut.load(job)
    if done is not None and not any(job.lost(0, shard) for shard in range(done.shards)):
        return done
    cut = Cut()
    places: list[str] = []
    for shard in _shards(job.config, cut, places, report):
        stop()
        _write(job, cut.shards, shard)
        cut.shards += 1
        if len(cut.groups) > 2 * MOST_GROUPS:
            cut.groups = largest(cut.groups, MOST_GROUPS)
    if not cut.shards:
        raise CorpusError(
            f"none of the corpus' documents is in a sample of {job.config.sample:.3%}: take a larger one."
        )
    write_text(job.out / "quarantine.jsonl", "".join(json.dumps({"record": place}) + "\n" for place in places))
    write_json(job.pass_folder(0) / "complete.json", asdict(cut))
    return cut


@dataclass
class _Shard:
    """Documents, their size and what tells them from others."""

    documents: list[Document] = field(default_factory=list)
    bytes: int = 0
    fingerprint: xxhash.xxh3_128 = field(default_factory=xxhash.xxh3_128)

    def add(self, document: Document) -> int:
        """Take one document more; returns the bytes of its text."""
        text, about = document.text.encode(), repr(document[1:]).encode()
        self.documents.append(document)
        self.bytes += len(text) + len(about)
        self.fingerprint.update(f"{len(text)}\0".encode() + about)
        self.fingerprint.update(text)
        return len(text)


def _shards(config: CleanConfig, cut: Cut, places: list[str], report: Report) -> Iterator[_Shard]:
    """Documents until they are ``shard_bytes`` together; a longer one ends its shard.

    What is said of a document counts like its text: a shard of a million short texts would not fit in memory.
    """
    shard = _Shard()
    for document in _documents(config, cut, places, report):
        size = shard.add(document)
        cut.total.count(size)
        cut.groups.setdefault(config.group(document), Tally()).count(size)
        if shard.bytes >= config.shard_bytes:
            yield shard
            shard = _Shard()
    if shard.documents:
        yield shard


def _write(job: Job, number: int, shard: _Shard) -> None:
    """Write a shard and its fingerprint, or compare it with the one that is there."""
    account, path = job.account(0, number), job.shard(0, number)
    fingerprint = shard.fingerprint.hexdigest()
    if account.exists():
        if json.loads(account.read_text(encoding="utf-8"))["fingerprint"] != fingerprint:
            raise CorpusError(
                f"the corpus has changed since {job.out} was begun, at {shard.documents[0].place} or soon after: "
                "clean into another folder, or remove this one."
            )
        if path.exists():
            return
    for file in (account, path):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_documents(path, shard.documents)
    write_json(account, {"fingerprint": fingerprint, "documents": len(shard.documents)})


def _documents(config: CleanConfig, cut: Cut, places: list[str], report: Report) -> Iterator[Document]:
    """All documents of the sample, from all parts of the corpus."""
    key, limit = derive_key(config.seed, "sample"), int(config.sample * 2**64)
    for source in config.corpus:
        reading = Reading(config.bad_fraction, places_kept=QUARANTINE, extract_html=not config.has("html"))
        for document in _read(source, reading, report):
            if xxhash.xxh3_64_intdigest(f"{document.source}\0{document.id}".encode(), seed=key) < limit:
                yield document
            else:
                cut.beyond_sample += 1
        places += reading.places[: QUARANTINE - len(places)]
        for name in ("records", "bad", "empty", "damaged", "damaged_bytes", "links"):
            setattr(cut, name, getattr(cut, name) + getattr(reading, name))


def _read(source: Source, reading: Reading, report: Report) -> Iterator[Document]:
    label = f"read {source.name or source.path}"
    for document in documents(source.path, reading):
        report(label, reading.disk_bytes_read, reading.disk_bytes)
        yield document._replace(source=source.name) if source.name else document


def summary(cut: Cut) -> dict[str, Any]:
    """The part of the summary that speaks of reading."""
    plain = asdict(cut.total) | asdict(replace(cut, groups=largest(cut.groups)))
    del plain["shards"], plain["total"]
    return plain
