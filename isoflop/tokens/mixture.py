"""A mixture: which sources a run reads, and in which shares, as a function of tokens consumed.

Shares are of tokens, not of rows or documents, and may change at given points of a run: stages, changes on the way and
the up-sampling of good data at the end, as Llama 3's mix did (arXiv 2407.21783, sections 3.1.2, 3.4.1 and 3.4.3). A
change comes into force with the first block of the run's longest context that begins at or after its point. What the
shares mean in passes over each source is ``ledger``'s; which sample is whose is ``blended``'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One folder of prepared tokens.

    Attributes:
        name: how blends and results call it.
        data: the folder, relative to the run's directory or absolute.
        tokens: read only this many of its training tokens, drawn by the seed in blocks of the run's longest context;
            by default all. A small run so repeats its data as often as the large one that it stands for.
    """

    name: str
    data: str
    tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuse a source without a name, or with nothing in it."""
        if not self.name or not self.data:
            raise ValueError(f"a source needs a name and a folder: {self}")
        if self.tokens is not None and self.tokens < 1:
            raise ValueError(
                f"source {self.name!r} is limited to {self.tokens} tokens; give at least one block, or none"
            )


@dataclass(frozen=True)
class Blend:
    """Weights by source name from ``at`` tokens consumed on. Any positive scale; a source left out has none."""

    at: int
    weights: dict[str, float]

    def __post_init__(self) -> None:
        """Refuse weights that are no shares."""
        if self.at < 0:
            raise ValueError(f"a blend begins at {self.at} tokens; the run begins at 0")
        for name, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"the weight of {name!r} from {self.at:,} tokens on is {weight}; it must be 0 or more")
        if not sum(self.weights.values()) > 0:
            raise ValueError(f"the blend from {self.at:,} tokens on has no weight above 0")

    @property
    def shares(self) -> dict[str, float]:
        """The weights, scaled to a sum of 1."""
        total = math.fsum(self.weights.values())
        return {name: weight / total for name, weight in self.weights.items()}


@dataclass(frozen=True)
class Mixture:
    """Sources, and the blends of them in the order in which they come into force; the first at 0.

    Attributes:
        max_epochs: passes over a source beyond which a run says so: up to about four, repeated tokens are worth nearly
            what new ones are (Muennighoff et al. 2023, arXiv 2305.16264).
        refuse_epochs: passes beyond which it refuses; by then repetition adds next to nothing (the same, figure 5).
    """

    sources: tuple[Source, ...]
    blends: tuple[Blend, ...]
    max_epochs: float = 4.0
    refuse_epochs: float = 40.0

    def __post_init__(self) -> None:
        """Refuse names that do not match, blends out of order and caps that are none."""
        names = [source.name for source in self.sources]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a mixture needs sources with a name each of its own, not {names}")
        if not self.blends or self.blends[0].at != 0:
            raise ValueError("the first blend of a mixture must begin at 0 tokens")
        starts = [blend.at for blend in self.blends]
        if starts != sorted(set(starts)):
            raise ValueError(f"the blends of a mixture must begin one after another, not at {starts}")
        for blend in self.blends:
            if unknown := blend.weights.keys() - set(names):
                raise ValueError(
                    f"the blend from {blend.at:,} tokens on has a weight for {min(unknown)!r}, which is no source; "
                    f"sources are {', '.join(names)}"
                )
        if not 0 < self.max_epochs <= self.refuse_epochs:
            raise ValueError(f"max_epochs ({self.max_epochs}) must be above 0 and at most refuse_epochs")

    @classmethod
    def constant(cls, sources: tuple[Source, ...], weights: dict[str, float]) -> Mixture:
        """The mixture whose weights never change."""
        return cls(sources, (Blend(0, weights),))

    @property
    def final(self) -> dict[str, float]:
        """The last blend's shares, a 0 for sources it leaves out."""
        shares = self.blends[-1].shares
        return {source.name: shares.get(source.name, 0.0) for source in self.sources}
