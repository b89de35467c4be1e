"""The flow of text through the stages of a cleaning: a river that each stage makes narrower, and what leaves it.

Made of rows of a page, each with a stretch of the river as SVG that takes whatever width there is, so that words
keep their size on a phone. The river's width is exact: bytes left, of all bytes read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isoflop.report.markup import text

HEIGHT = 100
WIDEST = 86.0
"""Percent of the track that all the bytes take; the rest is for what leaves."""
ASPECT = 7.4
"""Width over height of a stretch on a desk's screen: what leaves is drawn as thick as the river narrows."""

RULES = """
.river{margin:1.6rem 0 .6rem;font-size:.875rem;line-height:1.35}
.reach{display:grid;grid-template-columns:11rem 1fr 12rem;column-gap:1rem;align-items:center}
.reach svg{display:block;width:100%;height:calc(3.6rem + 1px);margin-bottom:-1px}.reach.end svg{height:1.7rem}
.reach .name{font-weight:600;overflow-wrap:anywhere}.reach small{display:block;color:var(--soft);font-weight:400}
.reach .lost{color:var(--accent);font-weight:600}.reach .none{color:var(--soft)}
.water{fill:color-mix(in srgb,var(--second) 55%,var(--paper))}.gone{fill:url(#gone)}
@media(max-width:36rem){.reach{grid-template-columns:1fr 1fr;column-gap:.6rem}.reach.end{grid-template-columns:1fr}
 .reach svg{grid-row:2;grid-column:1/3;height:2.4rem}.reach.end svg{grid-row:2;grid-column:1;height:1rem}
 .reach>div{padding:.35rem 0}.reach .lost,.reach .none{text-align:right}}
"""

FADE = (
    '<defs><linearGradient id="gone"><stop offset="0" stop-color="var(--accent)" stop-opacity=".75"/>'
    '<stop offset="1" stop-color="var(--accent)" stop-opacity="0"/></linearGradient></defs>'
)


@dataclass(frozen=True)
class Reach:
    """A stretch of the river: a stage, the shares of all bytes before and after it, and what is said of its loss."""

    name: str
    note: str
    before: float
    after: float
    lost: str
    about: str


def river(source: str, reaches: Sequence[Reach], mouth: str) -> str:
    """The figure: what the river begins with, its reaches in order, and what is left at the end."""
    rows = [_end(source, WIDEST, FADE)]
    rows += [_row(reach) for reach in reaches]
    rows.append(_end(mouth, WIDEST * reaches[-1].after if reaches else WIDEST, ""))
    said = "; ".join(f"{reach.name}: {reach.before:.1%} to {reach.after:.1%} of the bytes" for reach in reaches)
    return f'<div class="river" role="group" aria-label="{text(said)}">{"".join(rows)}</div>'


def _row(reach: Reach) -> str:
    a, b = WIDEST * reach.before, WIDEST * reach.after
    water = f'<path class="water" d="M0 0H{a:.2f}C{a:.2f} 45 {b:.2f} 55 {b:.2f} {HEIGHT}H0Z"/>'
    lost = f'<div class="lost">{text(reach.lost)}<small>{text(reach.about)}</small></div>'
    if not reach.lost:
        lost = f'<div class="none">{text(reach.about)}</div>'
    name = f'<div class="name">{text(reach.name)}<small>{text(reach.note)}</small></div>'
    return f'<div class="reach">{name}{_svg(_spill(a, b) + water)}{lost}</div>'


def _spill(a: float, b: float) -> str:
    """What leaves between widths ``a`` and ``b``: a ribbon that bends to the right and fades."""
    if a <= b:
        return ""
    thick = max(1.5, min(70.0, ASPECT * (a - b)))
    top, bottom, bend = 50 - thick / 2, 50 + thick / 2, min(5.0, (100 - a) / 3)
    return (
        f'<path class="gone" d="M{b:.2f} 0H{a:.2f}C{a:.2f} {top:.1f} {a:.2f} {top:.1f} {a + bend:.2f} {top:.1f}H100'
        f'V{bottom:.1f}H{b + bend:.2f}C{b:.2f} {bottom:.1f} {b:.2f} {bottom:.1f} {b:.2f} 0Z"/>'
    )


def _end(words: str, width: float, definitions: str) -> str:
    water = f'{definitions}<path class="water" d="M0 0H{width:.2f}V{HEIGHT}H0Z"/>'
    return f'<div class="reach end"><div class="name">{text(words)}</div>{_svg(water)}<div></div></div>'


def _svg(content: str) -> str:
    return f'<svg viewBox="0 0 100 {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">{content}</svg>'
