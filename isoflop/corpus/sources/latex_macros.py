"""The macros that an author defined, written out where they are used.

Understood are ``\\newcommand``, ``\\renewcommand``, ``\\providecommand`` with arguments and a default,
``\\def`` with plain arguments, and ``\\DeclareMathOperator``. Left as they are: environments, macros with delimited
arguments or conditions, those that only prepare others (``@`` in the body), and anything defined in terms of itself.

TeX is a programming language, so expansion is bounded: to 16 macros inside one another, and to a text four times as
long plus 64 Ki characters. Past that, nothing of the text is expanded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from isoflop.corpus.sources.latex import outside_verbatim

DEEPEST = 16
MOST_GROWTH = 4
_ALLOWANCE = 1 << 16

_DEFINITION = re.compile(
    r"\\(?:(?P<new>(?:re)?newcommand|providecommand|DeclareMathOperator|DeclareRobustCommand)\*?\s{0,9}"
    r"(?:\{\s{0,9}\\(?P<braced>[a-zA-Z]+)\s{0,9}\}|\\(?P<bare>[a-zA-Z]+))"
    r"(?:\s{0,9}\[(?P<count>[1-9])\])?(?:\s{0,9}\[(?P<default>[^\[\]{}\n]{0,200})\])?"
    r"|(?:long\\|global\\)?[gex]?def\s{0,9}\\(?P<def>[a-zA-Z]+)(?P<parameters>(?:#[1-9]){0,9}))\s{0,9}(?=\{)"
)
_COMMAND = re.compile(r"\\(?:([a-zA-Z]+)|.)", re.DOTALL)
_ENDS_IN_COMMAND = re.compile(r"\\[a-zA-Z]+\Z")
_PARAMETER = re.compile(r"#([1-9])")
_BRACE = re.compile(r"\\.|([{}])", re.DOTALL)
_SIGN = re.compile(r"[^\s{}#]")
_SPACE = re.compile(r"[ \t]{0,99}\n?[ \t]{0,99}")
_LEFT_ALONE = re.compile(r"\\if|@|\\(?:re)?newcommand|\\def\b|\\expandafter|\\csname|\\catcode|##")


class _TooLongError(Exception):
    """The expansion grows past its bound."""


@dataclass(frozen=True)
class Macro:
    """One definition: ``#1`` … in ``body`` stand for its arguments, the first optional if there is a default."""

    body: str
    arguments: int = 0
    default: str | None = None


def expanded(text: str) -> str:
    """``text`` without the definitions understood, and with their macros written out."""
    macros: dict[str, Macro] = {}
    rest = outside_verbatim(text, lambda piece: _take_definitions(piece, macros))
    if not macros:
        return text
    try:
        expansion = _Expansion(macros, MOST_GROWTH * len(text) + _ALLOWANCE)
        return outside_verbatim(rest, expansion.of)
    except _TooLongError:
        return text


def _take_definitions(text: str, macros: dict[str, Macro]) -> str:
    """``text`` without its definitions, which go into ``macros``; the last one of a name counts."""
    closing = _closing_braces(text)
    rest, position = [], 0
    for found in _DEFINITION.finditer(text):
        end = closing.get(found.end())
        if found.start() < position or end is None:
            continue
        if macro := _macro(found, text[found.end() + 1 : end]):
            macros[found["braced"] or found["bare"] or found["def"]] = macro
            rest.append(text[position : found.start()])
            position = end + 1
    return "".join([*rest, text[position:]])


def _macro(found: re.Match[str], body: str) -> Macro | None:
    if _LEFT_ALONE.search(body):
        return None
    if found["new"] == "DeclareMathOperator":
        return Macro(f"\\operatorname{{{body}}}")
    arguments = int(found["count"] or 0) if found["new"] else len(found["parameters"]) // 2
    if any(int(number) > arguments for number in _PARAMETER.findall(body)):
        return None
    return Macro(body, arguments, found["default"] if arguments else None)


class _Expansion:
    """One expansion of one text, and how many characters it may still write."""

    def __init__(self, macros: dict[str, Macro], budget: int) -> None:
        self._macros = macros
        self._left = budget
        self._bodies: dict[str, str] = {}
        self._busy: list[str] = []

    def of(self, text: str, depth: int = 0) -> str:
        """``text`` with its macros written out; those deeper than ``DEEPEST`` stay."""
        if depth >= DEEPEST:
            return text
        closing: dict[int, int] | None = None
        parts, position = [], 0
        for found in _COMMAND.finditer(text):
            if found.start() < position or found[1] not in self._macros or found[1] in self._busy:
                continue
            closing = _closing_braces(text) if closing is None else closing
            taken = _arguments(text, found.end(), self._macros[found[1]], closing)
            if taken is None:
                continue
            arguments, end = taken
            written = self._written(found[1], [self.of(argument, depth + 1) for argument in arguments])
            glue = " " if text[end : end + 1].isalpha() and _ENDS_IN_COMMAND.search(written[-60:]) else ""
            parts += [text[position : found.start()], written, glue]
            position = end
        return "".join([*parts, text[position:]])

    def _written(self, name: str, arguments: list[str]) -> str:
        if name not in self._bodies:
            self._busy.append(name)
            body = self.of(self._macros[name].body, len(self._busy))
            self._busy.pop()
            if self._busy:  # what was busy then may be written out another time
                return self._filled(body, arguments)
            self._bodies[name] = body
        return self._filled(self._bodies[name], arguments)

    def _filled(self, body: str, arguments: list[str]) -> str:
        written = _PARAMETER.sub(lambda number: arguments[int(number[1]) - 1], body)
        self._left -= len(written) + 1
        if self._left < 0:
            raise _TooLongError
        return written


def _arguments(text: str, position: int, macro: Macro, closing: dict[int, int]) -> tuple[list[str], int] | None:
    """The arguments that stand after a macro, and where they end; None if they are not all there."""
    found = []
    for number in range(macro.arguments):
        start = _SPACE.match(text, position).end()  # type: ignore[union-attr]
        if number == 0 and macro.default is not None:
            end = text.find("]", start, start + 1000) if text[start : start + 1] == "[" else -1
            found.append(text[start + 1 : end] if end >= 0 else macro.default)
            position = end + 1 if end >= 0 else position
        elif text[start : start + 1] == "{":
            if start not in closing:
                return None
            found.append(text[start + 1 : closing[start]])
            position = closing[start] + 1
        elif token := _COMMAND.match(text, start) or _SIGN.match(text, start):
            found.append(token[0])
            position = token.end()
        else:
            return None
    return found, position


def _closing_braces(text: str) -> dict[int, int]:
    """Of each opening brace that is closed, where; ``\\{`` is none."""
    closing, opened = {}, []
    for found in _BRACE.finditer(text):
        if found[1] == "{":
            opened.append(found.start())
        elif found[1] and opened:
            closing[opened.pop()] = found.start()
    return closing
