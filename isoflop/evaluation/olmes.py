"""Requests as OLMES prepares them (Gu et al. 2024, arXiv 2406.08446): a row for every choice, with its whole few-shot
prompt. Rows of one document are one item; those that ask for a choice without its question are left out."""

from __future__ import annotations

from dataclasses import dataclass

from isoflop.evaluation.multiple_choice import Item
from isoflop.evaluation.rows import Row, text_of

UNCONDITIONAL = 1_000_000
"""Documents from this number on are choices without their questions."""


@dataclass(frozen=True)
class Choice:
    """One choice of a document."""

    document: int
    place: int
    pair: tuple[str, str]
    gold: int


def request_of(row: Row, _: str = "") -> Choice:
    """The choice that a row asks about."""
    request = row["request"]
    if row.get("request_type", "loglikelihood") != "loglikelihood" or not isinstance(request, dict):
        raise ValueError(f"not a request for a likelihood but {row.get('request_type')!r}")
    pair = text_of(request, "context"), text_of(request, "continuation")
    return Choice(int(row["doc_id"]), int(row["idx"]), pair, int(row["label"]))


def gathered(choices: list[Choice]) -> list[Item]:
    """Documents as items, choices in order; a ValueError where a document's gold is not among its choices."""
    documents: dict[int, list[Choice]] = {}
    for choice in choices:
        if choice.document < UNCONDITIONAL:
            documents.setdefault(choice.document, []).append(choice)
    return [
        Item(tuple(choice.pair for choice in sorted(own, key=lambda c: c.place)), own[0].gold, cluster=str(number))
        for number, own in documents.items()
    ]
