"""Contexts and continuations as ids: how they are cut to what a model sees at once, and which of them begin alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

Ids = tuple[int, ...]
Pair = tuple[Ids, Ids]
"""A context, and the continuation to be scored after it."""

Row = tuple[Ids, list[Ids]]
"""A context, and continuations that are read beside each other behind it."""


class Score(NamedTuple):
    """How likely a continuation is: its log-probability in nats, its tokens, whether each of them was the likeliest,
    and how many tokens of its context were cut off."""

    logprob: float
    tokens: int
    greedy: bool
    cut: int = 0


def windows(context: Ids, continuation: Ids, room: int, stride: int) -> Iterator[Pair]:
    """Cut a pair into pairs that fit ``room``, the tokens that a model sees when it predicts the next.

    The first predicts as much as fits, every further one ``stride`` tokens (from 1 to ``room``); each has as much
    before it as fits. With room for all there is one; an empty continuation is one pair too.
    """
    if not 1 <= stride <= room:
        raise ValueError(f"a stride is from 1 to the model's context of {room:,}, not {stride:,}")
    start, whole = 0, context + continuation
    while True:
        end = min(len(continuation), start + (stride if start else room))
        at = len(context) + start
        yield whole[max(0, at - (room + 1 - max(1, end - start))) : at], continuation[start:end]
        if end == len(continuation):
            return
        start = end


def combined(pair: Pair, parts: Sequence[tuple[Pair, float, bool]]) -> Score:
    """The score of a pair from those of its windows."""
    (context, continuation), ((first, _), _, _) = pair, parts[0]
    logprob = sum(logprob for _, logprob, _ in parts)
    return Score(logprob, len(continuation), all(greedy for *_, greedy in parts), len(context) - len(first))


def beginnings(contexts: Sequence[Ids], shortest: int) -> Iterator[tuple[Ids, list[Ids]]]:
    """The contexts by what they begin with, where that is at least ``shortest`` tokens; the others under ``()``.

    A beginning is the longest that all of its contexts have and that leaves something of each.
    """
    groups: dict[Ids, list[Ids]] = {}
    for context in contexts:
        groups.setdefault(context[:shortest] if len(context) > shortest else (), []).append(context)
    alone = groups.pop((), [])
    for start, group in groups.items():
        if len(group) == 1:
            alone += group
            continue
        first, last = min(group), max(group)
        length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
        yield first[: max(len(start), min(length, min(map(len, group)) - 1))], group
    if alone:
        yield (), alone


def side_by_side(context: Ids, continuations: Sequence[Ids], least: int) -> Iterator[Row]:
    """Rows for the continuations of a context, as many in one as have its own length together, or ``least`` tokens.

    More would cost more attention, of which all between them is wasted, than reading the context again.
    """
    most = max(least, len(context))
    row: list[Ids] = []
    for continuation in sorted(continuations, key=len):
        if row and sum(map(len, row)) + len(continuation) > most:
            yield context, row
            row = []
        row.append(continuation)
    if row:
        yield context, row
