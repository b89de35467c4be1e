"""The page of ``isoflop masks``: examples in colours, tokens told apart by their shade, ids on pointing at them."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from isoflop.report.document import document
from isoflop.report.markup import paragraph, section, table, text

if TYPE_CHECKING:
    from isoflop.posttraining.masks_view import Part, Piece, Statistics

RULES = """
.masks span{border-radius:.15em;padding:.05em 0}
.given{color:var(--soft)}
.header{background:color-mix(in srgb,var(--second) 25%,transparent)}
.answer{background:color-mix(in srgb,var(--good) 26%,transparent)}
.end{background:color-mix(in srgb,var(--accent) 40%,transparent);font-weight:600}
.masks .odd{filter:brightness(1.18);text-decoration:underline;text-decoration-color:var(--faint)}
.masks .unseen{text-decoration:line-through;opacity:.6}
"""
MEANINGS = {
    "given": "read by the model, never trained on",
    "header": "begins the assistant's message; not trained on",
    "answer": "what fine-tuning trains on and DPO compares",
    "end": "what fine-tuning trains on and DPO does not compare",
}


def page(examples: list[tuple[str, list[Part]]], found: Statistics, reading: str) -> str:
    """The whole page."""
    counted = found.to_json()
    rows = [
        (f'<span class="masks"><span class="{name}">{name}</span></span>: {meaning}', f"{count:,}", share(count, found))
        for (name, meaning), count in zip(MEANINGS.items(), counted["by_kind"].values(), strict=True)
    ]
    longest = f"The longest example has {found.longest:,} tokens ({found.longest_place})"
    cut = f"the context of {found.context:,} cuts {found.cut:,} of {found.examples:,}"
    lost = f"{found.lost:,} have nothing left to train on"
    body = [
        "<h1>What is trained on</h1>",
        table(("tokens", "count", "share"), rows, "named"),
        paragraph(f"{longest}; {cut}, and {lost}. What is struck through is cut off."),
        paragraph(f"Read: {reading}", "small"),
        *(section(place, *map(shown, parts)) for place, parts in examples),
    ]
    return document("isoflop masks", "\n".join(body), f"{found.examples:,} examples", rules=RULES)


def share(count: int, found: Statistics) -> str:
    """A share of all tokens."""
    return f"{count / max(1, found.tokens.total()):.1%}"


def shown(part: Part) -> str:
    """One part of an example."""
    title = f"<p><b>{text(part.title)}</b></p>" if part.title else ""
    return f'{title}<pre class="masks">{"".join(span(i, piece) for i, piece in enumerate(part.pieces))}</pre>'


def span(number: int, piece: Piece) -> str:
    """One piece; its ids are shown on pointing at it."""
    kinds = [piece.kind.name.lower(), *(["odd"] if number % 2 else []), *([] if piece.seen else ["unseen"])]
    ids = escape(" ".join(map(str, piece.ids)))
    return f'<span class="{" ".join(kinds)}" title="{ids}">{text(piece.text)}</span>'
