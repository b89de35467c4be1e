"""Tasks in which the likeliest of several texts should be the right one: questions, Winograd's schemas, minimal pairs.

An item is pairs of context and continuation, one of which is right; what they share is read once. A tie is no answer,
so that a model which tells nothing apart scores 0 and not the share of golds that stand first. Accuracy is by the sum
of log-probabilities, by the sum over the continuation's UTF-8 bytes, and by the sum over its tokens. Forms of rows,
told by their keys:

- ``query``, ``choices``, ``gold``: one context and several continuations;
- ``context_options``, ``continuation``, ``gold``: several contexts and one continuation (Trinh & Le 2018, arXiv
  1806.02847: the likelihood of what comes after the options differ);
- ``sentence_good``, ``sentence_bad``: whole sentences (BLiMP, Warstadt et al. 2020, arXiv 1912.00582), with results by
  ``linguistics_term``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isoflop.evaluation.intervals import share
from isoflop.evaluation.likelihood import Scorer
from isoflop.evaluation.pieces import Score
from isoflop.evaluation.result import Result
from isoflop.evaluation.rows import Row, text_of, texts_of
from isoflop.progress import Report, silent


@dataclass(frozen=True)
class Item:
    """Alternatives, which of them is right, the part of the task that it is of, and what others share its context."""

    pairs: tuple[tuple[str, str], ...]
    gold: int
    group: str = ""
    cluster: str = ""

    def __post_init__(self) -> None:
        """Refuse an item without an answer."""
        if isinstance(self.gold, bool) or not isinstance(self.gold, int) or not 0 <= self.gold < len(self.pairs):
            raise ValueError(f"'gold' must be a number from 0 to {len(self.pairs) - 1}, not {self.gold!r}")


def item_of(row: Row, delimiter: str = "") -> Item:
    """The item of a row, with ``delimiter`` between a query and a space; a ValueError or KeyError where it is none."""
    if "sentence_good" in row:
        good, bad = text_of(row, "sentence_good"), text_of(row, "sentence_bad")
        return Item((("", good), ("", bad)), 0, str(row.get("linguistics_term", "")), f"{row.get('UID')}: {good}")
    if "context_options" in row:
        options, ending = texts_of(row, "context_options"), text_of(row, "continuation")
        return Item(tuple((option, joined(ending)) for option in options), row["gold"], cluster=repr(options))
    query = text_of(row, "query").rstrip() + delimiter
    passage = query.rsplit("\nQuestion:", 1)[0] if "\nQuestion:" in query else query
    return Item(tuple((query, joined(choice)) for choice in texts_of(row, "choices")), row["gold"], cluster=passage)


def joined(continuation: str) -> str:
    """A continuation with the space that parts it from its context."""
    return continuation if continuation[:1].isspace() else f" {continuation}"


def choose(scorer: Scorer, items: Sequence[Item], report: Report = silent) -> Result:
    """How often the right alternative is the likeliest; one group's figure for each that has a name."""
    pairs = [pair for item in items for pair in item.pairs]
    scores = iter(scorer.score(pairs, report))
    scored = [[next(scores) for _ in item.pairs] for item in items]
    by_sum = [best([score.logprob for score in own]) == item.gold for item, own in zip(items, scored, strict=True)]
    by_bytes = [best(per_byte(item, own)) == item.gold for item, own in zip(items, scored, strict=True)]
    by_token = [
        best([score.logprob / max(1, score.tokens) for score in own]) == item.gold
        for item, own in zip(items, scored, strict=True)
    ]
    clusters = tuple(item.cluster for item in items)
    shared = clusters if len(set(clusters)) < len(clusters) else None
    groups = sorted({item.group for item in items} - {""})
    return Result(
        "accuracy",
        {
            "accuracy": share(by_sum, shared),
            "accuracy by bytes": share(by_bytes, shared),
            "accuracy by tokens": share(by_token, shared),
        },
        tuple(map(float, by_sum)),
        shared,
        {g: share([hit for item, hit in zip(items, by_sum, strict=True) if item.group == g]) for g in groups},
        {"contexts cut": sum(any(score.cut for score in own) for own in scored)},
    )


def per_byte(item: Item, scores: Sequence[Score]) -> list[float]:
    """Log-probability over the bytes of each continuation, without the space before it."""
    return [
        score.logprob / max(1, len(continuation.strip().encode()))
        for (_, continuation), score in zip(item.pairs, scores, strict=True)
    ]


def best(values: Sequence[float]) -> int:
    """The place of the highest value; −1 where several are, or one is not a number."""
    highest = max(values)
    return values.index(highest) if values.count(highest) == 1 and all(v == v for v in values) else -1
