"""Documents for a person to judge: what a stage dropped beside what it kept, and its edits as diffs.

Every word of a document is escaped, and what cannot be seen in it is shown by its code (``markup.text``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from isoflop.report.markup import folded, text

Example = dict[str, Any]

REASONS = 12
"""The most reasons of a stage of which documents are shown."""

SEGMENTS = {
    "=": "{}",
    "-": "<del>{}</del>",
    "+": "<ins>{}</ins>",
    "~": '<span class="skip"> … {} characters … </span>',
}

WHITE = str.maketrans({" ": "␣", "\t": "⇥\t", "\n": "↵\n"})

RULES = """
h3{font-size:1.02rem;font-weight:650;margin:2.4rem 0 .3rem}
h4{font-size:.92rem;font-weight:600;margin:1.5rem 0 .4rem}h4 small{font-weight:400;color:var(--soft)}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem;margin:0 0 1rem}
.card{border:1px solid var(--faint);border-top:3px solid var(--faint);border-radius:.3rem;
 padding:.5rem .7rem .6rem;min-width:0}
.card.dropped{border-top-color:var(--accent)}.card.kept{border-top-color:var(--good)}
.card.edited{border-top-color:var(--second)}
.card p{margin:0 0 .35rem;font-size:.8rem;color:var(--soft);overflow-wrap:anywhere}
.card p b{font-weight:600}.dropped p b{color:var(--accent)}.kept p b{color:var(--good)}.edited p b{color:var(--second)}
.card pre{max-height:15rem;overflow:auto;font-size:.76rem}
.card.edited{margin:0 0 1rem}
.skip{color:var(--soft);font-style:italic}
del{background:color-mix(in srgb,var(--accent) 20%,transparent);color:var(--accent);text-decoration:line-through}
ins{background:color-mix(in srgb,var(--good) 20%,transparent);color:var(--good);text-decoration:none}
@media(max-width:36rem){.pair{grid-template-columns:1fr}}
@media print{.card pre{max-height:none;overflow:hidden}.card{break-inside:avoid}}
"""


def pairs(dropped: Sequence[Example], kept: Sequence[Example], reasons: dict[str, str]) -> str:
    """Dropped documents by reason, each beside one that was kept, of the same source or file where there is one.

    ``reasons`` says of each reason, the weightiest first, how much went for it.
    """
    pool = list(kept)
    parts = []
    for reason, said in list(reasons.items())[:REASONS]:
        rows = [_pair(one, _partner(one, pool)) for one in dropped if one["reason"] == reason]
        parts.append(f"<h4>{text(reason)} <small>{text(said)}</small></h4>{_opening(rows, 1)}")
    if len(reasons) > REASONS:
        parts.append(f'<p class="small">and {len(reasons) - REASONS} more reasons</p>')
    return "".join(parts)


def diffs(edited: Sequence[Example]) -> str:
    """What edits changed."""
    return f"<h4>edits</h4>{_opening([_card(one) for one in edited], 2)}" if edited else ""


def _opening(cards: Sequence[str], shown: int) -> str:
    """The first few, and the others to be opened."""
    more = folded(f"{len(cards) - shown} more", "".join(cards[shown:])) if cards[shown:] else ""
    return "".join(cards[:shown]) + more


def _partner(one: Example, pool: list[Example]) -> Example | None:
    """A kept document to show beside a dropped one; each is shown once."""
    if not pool:
        return None

    def far(kept: Example) -> tuple[bool, bool]:
        return kept["source"] != one["source"], _file(kept) != _file(one)

    return pool.pop(min(range(len(pool)), key=lambda i: far(pool[i])))


def _file(one: Example) -> str:
    """The file that a document was read from."""
    return str(one["place"]).rpartition(":")[0]


def _pair(dropped: Example, kept: Example | None) -> str:
    return f'<div class="pair">{_card(dropped)}{_card(kept) if kept else ""}</div>'


def _card(one: Example) -> str:
    detail = f" · {text(one['detail'])}" if one["detail"] else ""
    source = f" · {text(one['source'])}" if one["source"] else ""
    line = f"<p><b>{text(one['treated'])}</b>{detail} · {text(one['place'])}{source}</p>"
    return f'<div class="card {one["treated"]}">{line}<pre dir="auto">{_segments(one["segments"])}</pre></div>'


def _segments(segments: Iterable[Sequence[str]]) -> str:
    return "".join(SEGMENTS[kind].format(_seen(words) if kind in "-+" else text(words)) for kind, words in segments)


def _seen(words: str) -> str:
    """What an edit took or brought, white space too if it is nothing else."""
    return text(words if words.strip() else words.translate(WHITE))
