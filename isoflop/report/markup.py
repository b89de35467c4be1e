"""Small pieces of HTML: escaped text, tables, figures with captions, sections.

Every string that comes from a file passes through ``text``. What a model wrote may hold anything: markup, terminal
escapes, characters that reverse the reading direction, halves of surrogate pairs. Markup is escaped, and characters
that cannot be seen are shown by their code, so that the page says what is in the text and nothing in it acts.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Sequence

UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories of controls, formats (direction, joiners), surrogates, private, unassigned, odd line breaks."""


def text(value: object) -> str:
    """A value as HTML text, safe in an element and in a quoted attribute."""
    return html.escape("".join(map(visible, str(value))))


def visible(character: str) -> str:
    """The character itself, or its code if it cannot be seen; newline and tab stay."""
    if character in "\n\t" or unicodedata.category(character) not in UNSEEN:
        return character
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{{{ord(character):x}}}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table whose first column is text and whose others are numbers; cells are HTML already."""
    header = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    content = f"<thead><tr>{header}</tr></thead>\n<tbody>{body}</tbody>"
    return f'<div class="scroll"><table class="{kind}">{content}</table></div>'


def figure(caption: str, *plots: str) -> str:
    """One or more plots side by side over a caption, which is HTML already."""
    return f'<figure><div class="plots n{len(plots)}">{"".join(plots)}</div><figcaption>{caption}</figcaption></figure>'


def section(title: str, *parts: str) -> str:
    """A section of the page; its parts are HTML already."""
    return f"<section><h2>{text(title)}</h2>\n" + "\n".join(part for part in parts if part) + "</section>\n"


def paragraph(sentence: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{text(sentence)}</p>' if kind else f"<p>{text(sentence)}</p>"


def bullets(sentences: Iterable[str]) -> str:
    """A list of plain sentences."""
    return "<ul>" + "".join(f"<li>{text(sentence)}</li>" for sentence in sentences) + "</ul>"


def folded(summary: str, body: str) -> str:
    """Something to open; the body is HTML already."""
    return f"<details><summary>{text(summary)}</summary>{body}</details>"
