"""What a person is shown of a document: its beginning and end, or what an edit changed.

Bounded whatever the document: an excerpt has at most 1,200 characters, a diff about 1,500, and comparing looks at no
more than 400 lines and 400 words, because the time of comparing grows with their square.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

HEAD, TAIL = 900, 300
CONTEXT = 120
DIFF = 1500
LONGEST = 400

Segment = tuple[str, str]
"""What became of a stretch of text ("=" stays, "-" goes, "+" is new, "~" is how many characters are not shown)."""


def excerpt(text: str) -> list[Segment]:
    """A text, or the beginning and the end of a long one."""
    if len(text) <= HEAD + TAIL:
        return [("=", text)]
    return [("=", text[:HEAD]), ("~", str(len(text) - HEAD - TAIL)), ("=", text[-TAIL:])]


def edits(before: str, after: str) -> list[Segment]:
    """What changed between two texts, line by line and inside lines word by word, with little around it."""
    start = _common(before, after)
    end = _common(before[start:][::-1], after[start:][::-1])
    middle = _by_lines(before[start : len(before) - end], after[start : len(after) - end])
    whole = [("=", before[:start]), *middle, ("=", before[len(before) - end :])]
    return _capped(_abbreviated([segment for segment in _joined(whole) if segment[1]]))


def _common(a: str, b: str) -> int:
    """How many characters two texts begin with alike, by halving: comparing slices is fast, characters are not."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        half = (low + high + 1) // 2
        low, high = (half, high) if a[:half] == b[:half] else (low, half - 1)
    return low


def _by_lines(before: str, after: str) -> Iterator[Segment]:
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    for same, gone, come in _changes(old[:LONGEST], new[:LONGEST]):
        if same is None and gone and come:
            yield from _by_words("".join(gone), "".join(come))
        else:
            yield from _segments(same, gone, come)
    yield from _segments(None, old[LONGEST:], new[LONGEST:])


def _by_words(before: str, after: str) -> Iterator[Segment]:
    old, new = re.findall(r"\s+|\w+|[^\w\s]", before), re.findall(r"\s+|\w+|[^\w\s]", after)
    if max(len(old), len(new)) > LONGEST:
        yield from _segments(None, old, new)
        return
    for change in _changes(old, new):
        yield from _segments(*change)


Change = tuple[Sequence[str] | None, Sequence[str], Sequence[str]]


def _changes(old: Sequence[str], new: Sequence[str]) -> Iterator[Change]:
    """Stretches that are the same, or else what went and what came."""
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        yield (old[a:b], (), ()) if kind == "equal" else (None, old[a:b], new[c:d])


def _segments(same: Sequence[str] | None, gone: Sequence[str], come: Sequence[str]) -> Iterator[Segment]:
    yield from (("=", "".join(same or ())), ("-", "".join(gone)), ("+", "".join(come)))


def _joined(segments: Sequence[Segment]) -> list[Segment]:
    """Neighbours of one kind as one."""
    joined: list[Segment] = []
    for kind, text in segments:
        if text and joined and joined[-1][0] == kind:
            joined[-1] = (kind, joined[-1][1] + text)
        elif text:
            joined.append((kind, text))
    return joined


def _abbreviated(segments: Sequence[Segment]) -> Iterator[Segment]:
    """Long stretches reduced to what stands next to a change, or to their beginning and end."""
    for number, (kind, text) in enumerate(segments):
        before, after = (CONTEXT if number else 0), (CONTEXT if number < len(segments) - 1 else 0)
        if kind != "=":
            before, after = HEAD // 2, CONTEXT
        if len(text) <= before + after + CONTEXT:
            yield kind, text
            continue
        yield from (((kind, text[:before]),) if before else ())
        yield "~", str(len(text) - before - after)
        yield from (((kind, text[-after:]),) if after else ())


def _capped(segments: Iterator[Segment]) -> list[Segment]:
    shown: list[Segment] = []
    for segment in segments:
        if sum(len(text) for _, text in shown) > DIFF:
            break
        shown.append(segment)
    return shown
