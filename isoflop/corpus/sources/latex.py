"""LaTeX without its comments, and where verbatim text keeps everything as it is. Linear in the text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from isoflop.corpus.sources.markup import without

_VERBATIM = re.compile(r"\\begin\{(verbatim\*?|Verbatim|lstlisting|minted|alltt)\}")
_LINE_PARTS = re.compile(
    r"\\verb\*?(?P<mark>[^a-zA-Z\s*]).{0,300}?(?P=mark)"
    r"|\\(?:url|href|path|nolinkurl)\s{0,9}\{[^{}\n]{0,1000}\}"
    r"|\\."
    r"|(?P<comment>%.*)"
)


def outside_verbatim(text: str, change: Callable[[str], str]) -> str:
    """``text`` with ``change`` made to all of it but verbatim environments; one that never ends is none."""
    return "".join(piece if verbatim else change(piece) for verbatim, piece in _pieces(text))


def without_comments(text: str) -> str:
    """Everything from an unescaped % to the end of its line goes; a line that was nothing else goes whole.

    Kept are ``\\\\%``, a % inside ``\\\\verb`` or an address, and verbatim environments. The environment ``comment``
    goes too.
    """
    return outside_verbatim(text, _uncommented)


def _uncommented(text: str) -> str:
    lines = []
    for line in text.split("\n"):
        kept = _LINE_PARTS.sub(lambda part: "" if part["comment"] else part[0], line).rstrip() if "%" in line else line
        if kept or "%" not in line:
            lines.append(kept)
    return without_environment("\n".join(lines), "comment")


def without_environment(text: str, name: str) -> str:
    """``text`` without the environments of that name."""
    return without(text, f"\\begin{{{name}}}", f"\\end{{{name}}}")


def _pieces(text: str) -> Iterator[tuple[bool, str]]:
    """The text in pieces, and of each whether it is a verbatim environment."""
    position, never_ends = 0, set()
    for begin in _VERBATIM.finditer(text):
        if begin.start() < position or begin[1] in never_ends or _in_comment(text, begin.start()):
            continue
        end = text.find(f"\\end{{{begin[1]}}}", begin.end())
        if end < 0:
            never_ends.add(begin[1])
            continue
        yield False, text[position : begin.start()]
        position = end + len(f"\\end{{{begin[1]}}}")
        yield True, text[begin.start() : position]
    yield False, text[position:]


def _in_comment(text: str, position: int) -> bool:
    """Whether an unescaped % stands before ``position`` on its line, of which the last 500 characters are looked at."""
    line = text[max(text.rfind("\n", max(0, position - 500), position) + 1, position - 500, 0) : position]
    return any(part["comment"] for part in _LINE_PARTS.finditer(line))
