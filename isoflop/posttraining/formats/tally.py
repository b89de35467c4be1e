"""The account of one reading: rows by their format, and what was left out, why, and where first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from isoflop.corpus.document import RecordError


class Unusable(RecordError):  # noqa: N818 - a verdict on a row, not an error
    """A row that says clearly what it holds, which is not what was asked for, such as an empty answer."""


@dataclass
class Tally:
    """Counts of one reading.

    Attributes:
        most_malformed: the share of rows above which malformed ones make the data refused.
        places_kept: places remembered for every reason.
        rows: rows read.
        kept: values given out.
        malformed: rows that cannot be understood.
        formats: rows by the name of their format, those left out later among them.
        skipped: rows left out by reason.
        places: the first of those places by reason, as file:line.
    """

    most_malformed: float = 0.05
    places_kept: int = 3
    rows: int = 0
    kept: int = 0
    malformed: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, place: str, error: RecordError) -> None:
        """Count a row that is left out."""
        reason = str(error)
        self.malformed += not isinstance(error, Unusable)
        self.skipped[reason] += 1
        places = self.places.setdefault(reason, [])
        if len(places) < self.places_kept:
            places.append(place)

    def finish(self, wanted: str) -> None:
        """A ValueError where too many rows are malformed, or nothing is left; ``wanted`` says of what."""
        if self.malformed > self.most_malformed * self.rows:
            raise ValueError(
                f"{self.malformed:,} of {self.rows:,} rows are malformed, more than the {self.most_malformed:.0%} that "
                f"is let pass: {self.reasons(5)}"
            )
        if not self.kept:
            why = f": {self.reasons(5)}" if self.skipped else " at all"
            raise ValueError(f"no {wanted} in {self.rows:,} rows{why}")

    def reasons(self, most: int = 10) -> str:
        """The commonest reasons with their places, in words."""
        found = [
            f"{reason} ({count:,}: {', '.join(self.places[reason])}{' …' if count > len(self.places[reason]) else ''})"
            for reason, count in self.skipped.most_common(most)
        ]
        more = [f"{len(self.skipped) - most} more reasons"] if len(self.skipped) > most else []
        return "; ".join(found + more)

    def __str__(self) -> str:
        """One sentence."""
        formats = ", ".join(f"{count:,} {name}" for name, count in self.formats.most_common())
        left_out = f"; left out {self.skipped.total():,}: {self.reasons()}" if self.skipped else ""
        return f"{self.kept:,} of {self.rows:,} rows ({formats or 'no known format'}){left_out}"

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "rows": self.rows,
            "kept": self.kept,
            "malformed": self.malformed,
            "formats": dict(self.formats),
            "skipped": {reason: {"rows": n, "first": self.places[reason]} for reason, n in self.skipped.items()},
        }
