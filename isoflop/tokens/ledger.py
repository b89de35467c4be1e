"""The ledger of a mixture: what its weights mean in tokens and in passes over each source, forward and backward.

Forward: a total gives each source its share of every stretch between blends, and so its epochs. Backward: a cap on
epochs gives the largest total that keeps every source below it, and the source that sets it. The arithmetic is
LLaMA-1's Table 1 (arXiv 2302.13971): epochs = total × share / tokens available. It is of real numbers; the loader deals
whole samples, which differs from it by less than two per source and stretch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.mixture import Mixture


@dataclass(frozen=True)
class Entry:
    """One source's line: tokens that it has and that are drawn from it, its part of all, and passes over it."""

    name: str
    available: float
    drawn: float
    share: float
    epochs: float


@dataclass(frozen=True)
class Ledger:
    """A mixture and how many training tokens each source has, by name."""

    mixture: Mixture
    available: Mapping[str, float]

    def __post_init__(self) -> None:
        """Refuse a source with nothing to read."""
        for source in self.mixture.sources:
            if not self.available.get(source.name, 0) > 0:
                raise ValueError(f"source {source.name!r} has no tokens: leave it out of the mixture, or give it some")

    @classmethod
    def of(cls, mixture: Mixture, datasets: Mapping[str, TokenDataset]) -> Ledger:
        """The ledger of opened sources, by name; a source limited to fewer tokens than it has counts those."""
        held = {source.name: datasets[source.name].split("train").tokens for source in mixture.sources}
        return cls(mixture, {s.name: min(held[s.name], s.tokens or held[s.name]) for s in mixture.sources})

    def entries(self, total: float) -> list[Entry]:
        """What a run of ``total`` tokens draws, a line for each source in the mixture's order."""
        drawn = dict.fromkeys((source.name for source in self.mixture.sources), 0.0)
        for start, end, shares in self._stretches():
            for name, share in shares.items():
                drawn[name] += share * max(0.0, min(end, total) - start)
        return [self._entry(name, tokens, total) for name, tokens in drawn.items()]

    def largest(self, epochs: float) -> tuple[float, str]:
        """The largest total that reads no source more than ``epochs`` times, and the source that sets it.

        Finite for any finite cap: the last blend goes on reading something.
        """
        limits = {source.name: self._exhausted(source.name, epochs) for source in self.mixture.sources}
        name = min(limits, key=limits.__getitem__)
        return limits[name], name

    def warnings(self, total: float) -> list[str]:
        """A sentence for each source read more often than ``max_epochs``; a ValueError beyond ``refuse_epochs``."""
        said = []
        for entry in self.entries(total):
            cap = self.mixture.refuse_epochs if entry.epochs > self.mixture.refuse_epochs else self.mixture.max_epochs
            if entry.epochs <= cap:
                continue
            sentence = (
                f"source {entry.name!r} would be read {entry.epochs:.3g} times in {total:,.0f} tokens "
                f"(it has {entry.available:,.0f}); at most {cap:g} times is {self.largest(cap)[0]:,.0f} tokens in all"
            )
            if cap == self.mixture.refuse_epochs and entry.epochs > cap:
                raise ValueError(f"{sentence}: lower its weight, train less, or raise refuse_epochs")
            said.append(sentence)
        return said

    def _entry(self, name: str, drawn: float, total: float) -> Entry:
        available = float(self.available[name])
        return Entry(name, available, drawn, drawn / total, drawn / available)

    def _exhausted(self, name: str, epochs: float) -> float:
        """Tokens of the run at which this source has been read so many times."""
        left = epochs * self.available[name]
        for start, end, shares in self._stretches():
            share = shares.get(name, 0.0)
            if share and share * (end - start) >= left:
                return start + left / share
            left -= share and share * (end - start)
        return math.inf

    def _stretches(self) -> Iterator[tuple[float, float, dict[str, float]]]:
        """From where to where each blend is in force, in tokens, and its shares."""
        starts = [float(blend.at) for blend in self.mixture.blends]
        for (start, end), blend in zip(pairwise([*starts, math.inf]), self.mixture.blends, strict=True):
            yield start, end, blend.shares
