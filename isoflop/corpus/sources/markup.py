"""Small pieces of HTML, such as a post or what is left inside wikitext, as plain text.

Not a parser: tags are dropped where they stand, those of blocks become line breaks, and code keeps its spaces. For
whole pages, where menus have to go, see :mod:`isoflop.corpus.formats.html`. Linear in the text, whatever is in it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)(?:[\s/][^<>]*)?>")
_PRE = re.compile(r"<pre(?:\s[^<>]*)?>", re.IGNORECASE)
_PRE_END = re.compile(r"</pre\s*>", re.IGNORECASE)
_BLOCK_TAGS = (
    "address article aside blockquote dd div dl dt figure footer h1 h2 h3 h4 h5 h6 header hr ol p section table "
    "tbody tfoot thead tr ul"
)
_BLOCKS = frozenset(_BLOCK_TAGS.split())
_SPACES = re.compile(r"[ \t\r\n\f]+")
_AROUND_BREAK = re.compile(r" ?\n ?")
_BREAKS = re.compile(r"\n{3,}")


def plain_text(markup: str) -> str:
    """The text of a fragment of HTML: paragraphs a blank line apart, items of lists after dashes, code as it is."""
    parts = []
    for prose, code in _prose_and_code(without(markup, "<!--", "-->")):
        parts += [_prose(prose), html.unescape(_TAG.sub("", code)).strip("\n")]
    return "\n\n".join(part for part in parts if part.strip())


def strip_tags(markup: str) -> str:
    """``markup`` without its tags and with its entities as characters; blocks become blank lines."""
    return html.unescape(_TAG.sub(_break, markup))


def without(text: str, start: str, end: str) -> str:
    """``text`` without what stands between the marks ``start`` and ``end``, the marks included; unclosed, it stays."""
    parts, position = [], 0
    while (opened := text.find(start, position)) >= 0 and (closed := text.find(end, opened + len(start))) >= 0:
        parts.append(text[position:opened])
        position = closed + len(end)
    return "".join([*parts, text[position:]])


def _prose_and_code(markup: str) -> Iterator[tuple[str, str]]:
    position = 0
    while (opened := _PRE.search(markup, position)) and (closed := _PRE_END.search(markup, opened.end())):
        yield markup[position : opened.start()], markup[opened.end() : closed.start()]
        position = closed.end()
    yield markup[position:], ""


def _prose(markup: str) -> str:
    text = strip_tags(_SPACES.sub(" ", markup))
    return _BREAKS.sub("\n\n", _AROUND_BREAK.sub("\n", text)).strip()


def _break(tag: re.Match[str]) -> str:
    """What a tag leaves behind."""
    name = tag[2].lower()
    if name in _BLOCKS:
        return "\n\n"
    if name == "br":
        return "\n"
    if name == "li":
        return "" if tag[1] else "\n- "
    return " " if name in ("td", "th") else ""
