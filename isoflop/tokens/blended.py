"""Which source has the next sample, and which of its samples that is: a mixture as arithmetic on the sample's number.

A run is cut into stretches within which neither its blend nor its context changes, whole blocks of its longest context.
Over a stretch ``apportion`` gives the turns to the sources, so that every part of a run has each source's share to
within two samples of it. A source's own samples follow one another in its own order (``loader``), which
knows nothing of the others: one epoch of a source is every block of it once, whatever the blends did meanwhile.

A stretch with a context shorter than the longest gives each source whole blocks of the longest, apportioned first; its
samples are then turns in proportion to those blocks.

So the stream is a function of the manifests, the mixture, the seed and the number of the sample; it needs no state, and
its first sample costs what any other does. A mixture of one source is that source's plain stream.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop.tokens.apportion import Apportionment
from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.loader import Loader, Packing, document_ids
from isoflop.tokens.mixture import Mixture, Source

Stages = Sequence[tuple[int, float, int]]  # start, end and context of each stage of a run, in tokens


class Segment(NamedTuple):
    """A stretch of a run: from block ``begin`` to ``end`` of its longest context, at one context and with one blend."""

    begin: int
    end: float
    context: int
    shares: tuple[float, ...]


def segments(mixture: Mixture, stages: Stages) -> list[Segment]:
    """What blends and contexts cut a run into. A blend begins with the first block at or after its point."""
    block = stages[-1][2]
    blends = {-(-blend.at // block): blend.shares for blend in mixture.blends}
    contexts = {start // block: context for start, _, context in stages}
    begins = sorted(blends.keys() | contexts.keys())
    found = []
    for begin, end in zip(begins, [*begins[1:], math.inf], strict=True):
        shares = blends[max(start for start in blends if start <= begin)]
        context = contexts[max(start for start in contexts if start <= begin)]
        found.append(Segment(begin, end, context, tuple(shares.get(s.name, 0.0) for s in mixture.sources)))
    return found


def agree(one: list[Segment], other: list[Segment], until: int) -> bool:
    """Whether two lists of segments give the same samples up to ``until`` tokens.

    The end of a segment matters to its order only where the context is not yet the longest (``order``).
    """

    def begun(found: list[Segment]) -> list[Segment]:
        block = found[-1].context
        return [s if s.context < block else s._replace(end=0.0) for s in found if s.begin * block < until]

    return one[-1].context == other[-1].context and begun(one) == begun(other)


def open_sources(sources: Sequence[Source], folder: Path) -> dict[str, TokenDataset]:
    """The prepared folders of all sources; a ValueError unless one model can read them all, each once."""
    found = {source.name: TokenDataset.open(folder / source.data) for source in sources}
    (name, first), *others = found.items()
    seen = {first.manifest.fingerprint: name}
    for other, dataset in others:
        for field in ("tokenizer_checksum", "dtype"):
            ours, theirs = getattr(first.manifest, field), getattr(dataset.manifest, field)
            if ours != theirs:
                raise ValueError(
                    f"sources {name!r} ({first.folder}) and {other!r} ({dataset.folder}) differ in {field}, {ours} and "
                    f"{theirs}: prepare all sources of a mixture with one tokenizer"
                )
        if (twin := seen.setdefault(dataset.manifest.fingerprint, other)) != other:
            raise ValueError(
                f"sources {twin!r} and {other!r} are the same tokens: name them once, with the sum of their weights"
            )
    return found


@dataclass(frozen=True)
class _Stretch:
    """One segment at work: sample numbers ``first`` … ``last`` of the run, and each source's samples before it."""

    first: int
    last: float
    turns: Apportionment
    loaders: tuple[Loader | None, ...]
    before: tuple[int, ...]

    def counts(self, first: int, last: int) -> NDArray[np.int64]:
        """Samples that each source has had before each of first … last, (sources, last − first + 1)."""
        before = np.array(self.before, np.int64)[:, None]
        return before + self.turns.counts(np.arange(first - self.first, last - self.first + 1))

    def fill(self, rows: NDArray[np.int64], first: int) -> None:
        """Write the samples from number ``first`` on into ``rows``."""
        for loader, counts in zip(self.loaders, self.counts(first, first + len(rows)), strict=True):
            if loader is not None and counts[-1] > counts[0]:
                rows[np.diff(counts) > 0] = loader.batch(int(counts[0]), int(counts[-1] - counts[0]))

    def places(self, first: int, last: int) -> NDArray[np.int64]:
        """Source and position in its split of each of the samples first … last − 1, (2, last − first)."""
        places = np.empty((2, last - first), np.int64)
        for number, (loader, counts) in enumerate(zip(self.loaders, self.counts(first, last), strict=True)):
            if loader is not None and counts[-1] > counts[0]:
                mine = np.diff(counts) > 0
                places[0, mine] = number
                places[1, mine] = loader.positions(int(counts[0]), int(counts[-1] - counts[0]))
        return places

    def targets(self, first: int, last: int) -> int:
        """Targets of the samples first … last − 1 that are no padding."""
        counts = self.counts(first, last)
        return sum(
            loader.targets(int(mine[0]), int(mine[-1] - mine[0]))
            for loader, mine in zip(self.loaders, counts, strict=True)
            if loader is not None and mine[-1] > mine[0]
        )


class BlendedLoader:
    """The sequences of a mixture at one context, in the order of training. Immutable; safe to share between threads."""

    def __init__(self, context: int, stretches: Sequence[_Stretch], bos: int) -> None:
        self.context, self._bos = context, bos
        self._stretches = tuple(stretches)

    def batch(self, first_sample: int, count: int) -> NDArray[np.int64]:
        """Samples first_sample … first_sample + count − 1, int64 of shape (count, context + 1), as ``Loader.batch``."""
        rows = np.empty((count, self.context + 1), np.int64)
        for stretch, first, last in self._across(first_sample, count):
            stretch.fill(rows[first - first_sample : last - first_sample], first)
        return rows

    def sources(self, first_sample: int, count: int) -> NDArray[np.int64]:
        """Which source those samples are of, by its place in the mixture, shape (count,)."""
        return np.concatenate(
            [
                np.diff(stretch.counts(first, last)).argmax(axis=0)
                for stretch, first, last in self._across(first_sample, count)
            ]
        )

    def places(self, first_sample: int, count: int) -> NDArray[np.int64]:
        """Source, by its place in the mixture, and position in its train split of those samples, shape (2, count)."""
        parts = [stretch.places(first, last) for stretch, first, last in self._across(first_sample, count)]
        return np.concatenate(parts, axis=1)

    def targets(self, first_sample: int, count: int) -> int:
        """How many targets those samples have that are no padding."""
        return sum(stretch.targets(first, last) for stretch, first, last in self._across(first_sample, count))

    def document_ids(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which document of its row each token belongs to, as ``Loader.document_ids``."""
        return document_ids(batch, self._bos)

    def _across(self, first: int, count: int) -> Iterator[tuple[_Stretch, int, int]]:
        """The stretches that hold these samples, with the part of them in each."""
        if first < self._stretches[0].first or count < 1 or first + count > self._stretches[-1].last:
            raise ValueError(
                f"samples {first} to {first + count} are not of this stage, which has {self._stretches[0].first} to "
                f"{self._stretches[-1].last}"
            )
        for stretch in self._stretches:
            begin, end = max(first, stretch.first), int(min(first + count, stretch.last))
            if begin < end:
                yield stretch, begin, end


def blended_loaders(
    datasets: Mapping[str, TokenDataset], mixture: Mixture, stages: Stages, seed: int, packing: Packing = "cut"
) -> dict[int, BlendedLoader]:
    """The loader of each context of a run, by context."""
    block = stages[-1][2]
    stretches: dict[int, list[_Stretch]] = {}
    before = np.zeros(len(mixture.sources), np.int64)
    for segment in segments(mixture, stages):
        turns, pieces = Apportionment.of(segment.shares), block // segment.context
        ends = np.where(np.array(turns.parts) > 0, math.inf, before)
        if segment.end < math.inf:
            blocks = turns.counts(np.array([segment.end - segment.begin], np.int64))[:, 0]
            ends = (before + blocks).astype(float)
            if pieces > 1:
                turns = Apportionment(tuple(blocks.tolist()))
        loaders = tuple(
            Loader(
                datasets[source.name],
                "train",
                segment.context,
                seed,
                block=block,
                start=int(start) * block,
                end=end * block,
                limit=source.tokens,
                packing=packing,
            )
            if end > start
            else None
            for source, start, end in zip(mixture.sources, before, ends, strict=True)
        )
        first, last = segment.begin * pieces, segment.end * pieces
        stretch = _Stretch(first, last, turns, loaders, tuple((before * pieces).tolist()))
        stretches.setdefault(segment.context, []).append(stretch)
        before = np.where(np.isfinite(ends), ends, before).astype(np.int64)
    bos = next(iter(datasets.values())).tokenizer.bos
    return {context: BlendedLoader(context, parts, bos) for context, parts in stretches.items()}
