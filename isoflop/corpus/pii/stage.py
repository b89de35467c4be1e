"""The stage ``pii``: placeholders for personal data and secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from isoflop.corpus.document import Document
from isoflop.corpus.pii.found import Span
from isoflop.corpus.pii.network import emails, ip_addresses
from isoflop.corpus.pii.numbers import accounts, cards, phones, social_security
from isoflop.corpus.pii.secrets import secrets
from isoflop.corpus.stage import Dropped, Stage, Verdict

FINDERS: dict[str, Callable[[str], Iterable[Span]]] = {
    "secret": secrets,
    "email": emails,
    "iban": accounts,
    "card": cards,
    "ssn": social_security,
    "phone": phones,
    "ip": ip_addresses,
}
"""The kinds, and who finds them; what two find belongs to the first."""


def scrubbed(
    text: str, kinds: Iterable[str] = tuple(FINDERS), placeholder: str = "<{kind}>"
) -> tuple[str, dict[str, int]]:
    """``text`` with placeholders, and how many of each kind were found; ``{kind}`` is the kind in capitals."""
    found: list[tuple[int, int, str]] = []
    for kind in kinds:
        if spans := sorted((start, end, kind) for start, end in FINDERS[kind](text)):
            found = _merged(found, spans)
    counts: dict[str, int] = {}
    parts, position = [], 0
    for start, end, kind in found:
        parts += [text[position:start], placeholder.replace("{kind}", kind.upper())]
        counts[kind] = counts.get(kind, 0) + 1
        position = end
    return "".join([*parts, text[position:]]), counts


def _merged(first: list[tuple[int, int, str]], second: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Both in their order, without those of the second that overlap the first, or an earlier one of the second."""
    kept, position, end = [], 0, 0
    for span in second:
        while position < len(first) and first[position][1] <= span[0]:
            position += 1
        if span[0] >= end and (position == len(first) or first[position][0] >= span[1]):
            kept.append(span)
            end = span[1]
    return sorted(first + kept)


@dataclass(frozen=True)
class Pii(Stage):
    """Replace personal data and secrets, and count them in ``extra["pii"]``.

    FineWeb (Penedo et al. 2024, arXiv 2406.17557, §3.2) replaced e-mail and public IP addresses; Dolma (Soldaini et al.
    2024, arXiv 2402.00159, §3.1.3) telephone numbers too, and dropped pages with many; the others are those that The
    Stack's successors scrub from code (Li et al. 2023, arXiv 2305.06161, §4).

    Attributes:
        kinds: Those that are replaced, among secret, email, iban, card, ssn, phone and ip.
        placeholder: What is written instead; ``{kind}`` becomes the kind in capitals.
        most: A document with more goes; none said: none goes.
    """

    name: ClassVar[str] = "pii"

    kinds: tuple[str, ...] = tuple(FINDERS)
    placeholder: str = "<{kind}>"
    most: int | None = None

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.kinds if kind not in FINDERS]:
            raise ValueError(f"pii: there is no kind {unknown[0]!r}; choose among {', '.join(FINDERS)}.")

    def judge_one(self, document: Document) -> Verdict:
        """The document with placeholders."""
        text, counts = scrubbed(document.text, self.kinds, self.placeholder)
        if not counts:
            return document
        if self.most is not None and sum(counts.values()) > self.most:
            return Dropped(document, "much personal data", ", ".join(f"{n} {kind}" for kind, n in counts.items()))
        return document._replace(text=text, extra={**document.extra, "pii": counts})
