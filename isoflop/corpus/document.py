"""What a corpus is made of, and the account of one reading of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

NOTHING: Mapping[str, Any] = MappingProxyType({})


class CorpusError(ValueError):
    """The corpus cannot be used; the message says what is wrong, where, and what to do."""


class FileError(CorpusError):
    """One file cannot be read to its end; ``reason`` says why and what to do, without the file's name."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path} {self.reason}"


class RecordError(Exception):
    """One record cannot be used; the message is the reason, the place is added where it is caught."""


class Document(NamedTuple):
    """One text, and where it came from.

    Attributes:
        text: The text.
        place: Where it was read: ``"web/a.jsonl.zst:17"`` is record 17 of that file, counted from 1.
        id: The record's own id, or else its place; what chance decides about a document is keyed by this.
        source: The collection that it belongs to, such as ``"wikipedia"``; the record's own word, or else the file.
        language: A language's code such as ``"en"``; empty where nobody said.
        license: The licence as the record states it; empty where nobody said.
        url: Where it was published; empty where nobody said.
        extra: Whatever else the record holds, such as scores of answers or a file's path, as JSON values.
    """

    text: str
    place: str
    id: str = ""
    source: str = ""
    language: str = ""
    license: str = ""
    url: str = ""
    extra: Mapping[str, Any] = NOTHING


@dataclass
class Reading:
    """The account of one reading: how far it is, and which records were put in quarantine.

    A bad record is counted and left out. Only when more than ``bad_fraction`` of all records are bad, and
    more than ``bad_minimum`` of them, is the corpus itself refused, which is known when the reading ends.
    Of a damaged file the documents before the damage are kept. The corpus is refused as soon as damaged files have more
    than ``bad_fraction`` of its bytes on disk. ``places`` holds the first ``places_kept`` bad records and damages with
    their reasons. ``links`` counts the links out of the folder that were left out. Progress counts bytes on disk.
    Without ``extract_html`` a page of HTML is a document of markup, ``extra["format"] == "html"``, so that the stage
    ``html`` can extract many at once.
    """

    bad_fraction: float = 0.01
    bad_minimum: int = 10
    places_kept: int = 100
    extract_html: bool = True
    records: int = 0
    bad: int = 0
    empty: int = 0
    damaged: int = 0
    damaged_bytes: int = 0
    links: int = 0
    places: list[str] = field(default_factory=list)
    disk_bytes_read: int = 0
    disk_bytes: int = 0

    def quarantine(self, place: str, reason: str) -> None:
        """Count one bad record, already counted among the records, and remember where it is."""
        self.bad += 1
        self._remember(place, reason)

    def give_up(self, place: str, error: FileError) -> None:
        """Count a damaged file, and remember where its damage begins; raises CorpusError where that is too much."""
        self.damaged += 1
        self.damaged_bytes += error.path.stat().st_size
        self._remember(place, error.reason)
        if self.damaged_bytes > self.bad_fraction * self.disk_bytes:
            raise CorpusError(
                f"{error} Damaged files so far are {self.damaged_bytes / max(1, self.disk_bytes):.1%} of the corpus' "
                f"bytes, and {self.bad_fraction:.1%} is let pass (bad_fraction)."
            ) from error

    def _remember(self, place: str, reason: str) -> None:
        if len(self.places) < self.places_kept:
            self.places.append(f"{place}: {reason}")

    def finish(self, corpus: object) -> None:
        """Refuse a corpus with too many bad records, or with no document at all."""
        examples = f" The first: {'; '.join(self.places[:3])}." if self.places else ""
        if self.bad > max(self.bad_minimum, self.bad_fraction * self.records):
            raise CorpusError(
                f"{self.bad} of {self.records} records in {corpus} cannot be used, more than the "
                f"{self.bad_fraction:.1%} that is let pass (bad_fraction).{examples} Repair or remove them."
            )
        if self.records == self.bad + self.empty:
            raise CorpusError(
                f"{corpus} holds no document: {self.records} records, {self.bad} bad, {self.empty} empty."
                f"{examples} Give a corpus with text in it."
            )
