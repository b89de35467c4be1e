"""The boilerplate at the top of source files: comments with a licence, and the remark that a program wrote the file."""

from __future__ import annotations

import re

GENERATED = re.compile(r"(?i)(auto-?|automatically |file is |code is |was )generated|do not edit")
"""What generated files say in their first lines."""
TOP = 500
"""Characters in which they say it."""

_LICENCE = re.compile(
    r"(?i)copyright\b|SPDX-|all rights reserved|permission is hereby granted|redistribution and use|"
    r"licen[sc]ed (under|to)\b|under the (terms|.{0,30}licen[sc]e)|general public licen[sc]e"
)
_FIRST_LINES = re.compile(r"(?:#!.*\n|#.{0,40}coding[:=].*\n|<\?(?:php|xml).*\n)*")
_LINE_COMMENT = re.compile(r"[ \t]*(//|#(?!include|define|if|pragma|import|undef)|--|;|%|REM\b|rem\b|!|\*>)")
_BLOCKS = (("/*", "*/"), ("<!--", "-->"), ("(*", "*)"), ("{-", "-}"), ("--[[", "]]"))


def is_generated(text: str) -> bool:
    """Whether the top of a file says that a program wrote it."""
    return GENERATED.search(text[:TOP]) is not None


def without_licence(text: str) -> str:
    """``text`` without the comments at its top that speak of copyright or licence; the #! line stays."""
    first = _FIRST_LINES.match(text)
    start = position = first.end() if first else 0
    while (end := _comment_end(text, position)) > position and _LICENCE.search(text, position, end):
        position = end
    return text if position == start else text[:start] + text[position:].lstrip("\r\n")


def _comment_end(text: str, start: int) -> int:
    """Where the first comment from ``start`` on ends, blank lines before it included; ``start`` if there is none."""
    position = start
    while position < len(text) and text[position].isspace():
        position += 1
    for opening, closing in _BLOCKS:
        if text.startswith(opening, position):
            end = text.find(closing, position + len(opening))
            return end + len(closing) if end >= 0 else start
    marked = _LINE_COMMENT.match(text, position)
    if not marked:
        return start
    while (line := _LINE_COMMENT.match(text, position)) and line[1] == marked[1]:
        newline = text.find("\n", line.end())
        position = newline + 1 if newline >= 0 else len(text)
    return position
