"""The account of what stages did: documents, bytes, reasons, and examples that chance chose the same way every time.

Every task leaves one account; their sum, in the order of shards, is the account of the corpus. Which documents serve
as examples is decided by a keyed hash of each (the smallest few win), so that neither the cut into shards nor the
number of workers has a say. Costs about 5 µs a document and stage (on a busy core); adding up keeps two numbers
in memory for every stage, reason and group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import xxhash

from isoflop.corpus.document import Document
from isoflop.corpus.pipeline.excerpts import Segment, edits, excerpt

OTHERS = "(all others)"
MOST_GROUPS = 10_000
"""Groups that are told apart while accounts are added up: twice as many are the most in memory."""
KEPT = 4
"""As many more kept documents are shown than of one reason, because every reason's are shown beside some."""


@dataclass
class Tally:
    """Documents, and bytes of UTF-8 text."""

    documents: int = 0
    bytes: int = 0

    def count(self, size: int) -> None:
        """One document more."""
        self.documents += 1
        self.bytes += size

    def add(self, other: Tally) -> None:
        """All of another's."""
        self.documents += other.documents
        self.bytes += other.bytes


def largest(tallies: Mapping[str, Tally], most: int | None = None) -> dict[str, Tally]:
    """Tallies from the one of most bytes to the smallest; those after the first ``most`` together as OTHERS."""
    found = sorted(tallies.items(), key=lambda item: (item[0] == OTHERS, -item[1].bytes, item[0]))
    if most is None or len(found) <= most:
        return dict(found)
    others = Tally()
    for _, tally in found[most:]:
        others.add(tally)
    return dict(found[:most]) | {OTHERS: others}


@dataclass
class StageAccount:
    """What one stage did.

    Attributes:
        received: What arrived.
        judged: The part of it that the stage was shown.
        kept: What left, with the sizes that it left with.
        edited: Documents whose text changed, and the bytes that they lost by it (negative where they grew).
        reasons: What was dropped, by reason.
        groups: What left, by source, or by whichever field the config says.
    """

    received: Tally = field(default_factory=Tally)
    judged: Tally = field(default_factory=Tally)
    kept: Tally = field(default_factory=Tally)
    edited: Tally = field(default_factory=Tally)
    reasons: dict[str, Tally] = field(default_factory=dict)
    groups: dict[str, Tally] = field(default_factory=dict)

    def keep(self, group: str, size: int) -> None:
        """Count a document that leaves."""
        self.kept.count(size)
        self.groups.setdefault(group, Tally()).count(size)

    def drop(self, reason: str, size: int) -> None:
        """Count a document that goes."""
        self.reasons.setdefault(reason, Tally()).count(size)

    def add(self, other: StageAccount) -> None:
        """All of another's; of very many groups, small ones are counted together."""
        for name in ("received", "judged", "kept", "edited"):
            getattr(self, name).add(getattr(other, name))
        for mine, theirs in ((self.reasons, other.reasons), (self.groups, other.groups)):
            for key, tally in theirs.items():
                mine.setdefault(key, Tally()).add(tally)
        if len(self.groups) > 2 * MOST_GROUPS:
            self.groups = largest(self.groups, MOST_GROUPS)

    def to_json(self) -> dict[str, Any]:
        """As plain values, reasons and groups from the largest."""
        ordered = replace(self, reasons=largest(self.reasons), groups=largest(self.groups))
        return asdict(ordered)

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> StageAccount:
        """What ``to_json`` wrote."""
        reasons, groups = ({key: Tally(**t) for key, t in plain[name].items()} for name in ("reasons", "groups"))
        tallies = [Tally(**plain[name]) for name in ("received", "judged", "kept", "edited")]
        return cls(tallies[0], tallies[1], tallies[2], tallies[3], reasons, groups)


@dataclass(frozen=True)
class Example:
    """A document to look at: how a stage treated it ("kept", "edited" or "dropped"), and its text as segments."""

    stage: str
    treated: str
    place: str
    source: str
    reason: str = ""
    detail: str = ""
    segments: Sequence[Segment] = ()


@dataclass
class Reservoir:
    """The few documents of each drawer whose keys are smallest: ``limit`` whatever is offered, and more of the kept."""

    limit: int
    seed: int
    drawers: dict[str, list[tuple[int, tuple[Any, ...]]]] = field(default_factory=dict)

    def offer(
        self, stage: str, treated: str, document: Document, reason: str = "", detail: str = "", after: str = ""
    ) -> None:
        """Let a document take part in the draw of its stage, treatment and reason."""
        drawer = f"{stage}/{treated}/{reason}"
        key = xxhash.xxh3_64_intdigest(f"{document.place}\0{document.id}\0{drawer}".encode(), seed=self.seed)
        self.put(drawer, key, (stage, treated, document, reason, detail, after), treated)

    def put(self, drawer: str, key: int, entry: tuple[Any, ...], treated: str) -> None:
        """The same, with a key that is known. Of equal keys the first stays."""
        limit = self.limit * (KEPT if treated == "kept" else 1)
        held = self.drawers.setdefault(drawer, [])
        if len(held) < limit or (held and key < held[-1][0]):
            held.append((key, entry))
            held.sort(key=lambda pair: pair[0])
            del held[limit:]


def example(stage: str, treated: str, document: Document, reason: str, detail: str, after: str) -> Example:
    """A document as it is shown: an edited one by what changed, another by its beginning and end."""
    segments = edits(document.text, after) if treated == "edited" else excerpt(document.text)
    return Example(stage, treated, document.place, document.source, reason, detail, segments)


def drawn(reservoir: Reservoir) -> list[dict[str, Any]]:
    """The winners as plain values, with their keys, so that winners of several shards can be drawn from again."""
    return [
        {"drawer": drawer, "key": key, **asdict(example(*entry))}
        for drawer, held in sorted(reservoir.drawers.items())
        for key, entry in held
    ]


def draw_again(draws: Iterable[Iterable[dict[str, Any]]], limit: int) -> list[dict[str, Any]]:
    """The winners among the winners of shards: those that one draw over all documents would have had."""
    reservoir = Reservoir(limit, 0)
    for winners in draws:
        for winner in winners:
            reservoir.put(winner["drawer"], winner["key"], (winner,), winner["treated"])
    held = [pair[1][0] for _, drawer in sorted(reservoir.drawers.items()) for pair in drawer]
    return [{name: value for name, value in winner.items() if name not in ("drawer", "key")} for winner in held]
