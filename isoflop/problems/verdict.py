"""What a verifier says of an answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Status = Literal["right", "wrong", "unreadable", "timeout", "error"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right.

    Attributes:
        status: unreadable is no answer of the kind asked for; timeout and error are those of a program.
        extracted: The answer as it was understood; None if unreadable.
        why: What is wrong, as one may tell whoever answered; it never gives away the reference of another kind than
            a program's test.
    """

    status: Status
    extracted: str | None
    why: str = ""

    @property
    def right(self) -> bool:
        """Whether the answer is right."""
        return self.status == "right"


def counted(verdicts: Iterable[Verdict]) -> dict[Status, int]:
    """How many verdicts there are of each status, those of none included."""
    counts = Counter(verdict.status for verdict in verdicts)
    return {status: counts[status] for status in STATUSES}
