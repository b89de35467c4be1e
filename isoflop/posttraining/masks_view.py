"""Which tokens of an example are trained on, as pieces of text to be coloured, and what all examples come to.

A piece is as few tokens as spell whole characters; a special token is a piece by its name. Knows no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from isoflop.posttraining.chat import COMPARED, TRAINED, Chat, Encoded, Kind
from isoflop.posttraining.conversation import Conversation, Ranking
from isoflop.tokens.tokenizer import Tokenizer

REPLACEMENT = "\ufffd"
LONGEST_CHARACTER = 16
"""Tokens that one character can take at most, with room to spare."""


class Piece(NamedTuple):
    """Text of one or more tokens of one kind; ``seen`` is false for what the context cuts off."""

    text: str
    kind: Kind
    ids: tuple[int, ...]
    seen: bool = True


class Part(NamedTuple):
    """A titled stretch of an example, such as one of its responses."""

    title: str
    pieces: list[Piece]


def parts(chat: Chat, value: Conversation | Ranking, context: int) -> list[Part]:
    """A conversation as one part, a ranking as its prompt and its responses."""
    return [Part(title, pieces(chat.tokenizer, one, seen)) for title, one, seen in stretches(chat, value, context)]


def stretches(chat: Chat, value: Conversation | Ranking, context: int) -> Iterator[tuple[str, Encoded, int]]:
    """Title, tokens, and how many of these lie within the context."""
    if isinstance(value, Conversation):
        yield "", chat.encode(value.messages), context
        return
    header = chat.header("assistant")
    given = chat.encode(value.prompt)
    prompt = Encoded(given.ids + header, given.kinds + [Kind.HEADER] * len(header))
    yield "prompt", prompt, context
    last = len(value.responses)
    names = {1: "response 1, the best", last: f"response {last}, the worst"}
    for number, said in enumerate(value.responses, 1):
        yield names.get(number, f"response {number}"), chat.answer(said), max(0, context - len(prompt.ids))


def pieces(tokenizer: Tokenizer, encoded: Encoded, seen: int) -> list[Piece]:
    """Tokens joined until they spell whole characters, never over kinds or the end of the context."""
    found: list[Piece] = []
    held: list[int] = []
    for place, (number, kind) in enumerate(zip(*encoded, strict=True), 1):
        held.append(number)
        last = place == len(encoded.ids) or encoded.kinds[place] != kind or place == seen
        text = tokenizer.name_of(number) if tokenizer.is_special(number) else tokenizer.decode(held)
        if text.endswith(REPLACEMENT) and not last and len(held) < LONGEST_CHARACTER:
            continue
        found.append(Piece(text, kind, tuple(held), place <= seen))
        held = []
    return found


@dataclass
class Statistics:
    """What a data set comes to under a context of ``context`` tokens.

    Tokens are by kind, those that the context cuts off left out; ``cut`` examples are longer than the context, and
    ``lost`` ones have nothing left that is trained on.
    """

    context: int
    examples: int = 0
    tokens: Counter[Kind] = field(default_factory=Counter)
    longest: int = 0
    longest_place: str = ""
    cut: int = 0
    lost: int = 0

    def add(self, chat: Chat, value: Conversation | Ranking, place: str) -> None:
        """Count one more example; of a ranking the prompt once."""
        self.examples += 1
        (_, first, seen), *responses = stretches(chat, value, self.context)
        own = Counter(first.kinds[:seen])
        for _, response, seen in responses:
            own.update(response.kinds[:seen])
        length = len(first.ids) + max((len(response.ids) for _, response, _ in responses), default=0)
        self.tokens.update(own)
        self.cut += length > self.context
        self.lost += not any(own[kind] for kind in TRAINED)
        if length > self.longest:
            self.longest, self.longest_place = length, place

    def share(self, kinds: Iterable[Kind]) -> float:
        """The share of all tokens that is of these kinds."""
        return sum(self.tokens[kind] for kind in kinds) / max(1, self.tokens.total())

    def check(self) -> None:
        """A ValueError for a data set that trains on nothing."""
        if not any(self.tokens[kind] for kind in TRAINED):
            raise ValueError(
                f"these {self.examples:,} examples train on nothing: no token of an answer lies within the context of "
                f"{self.context:,} tokens, and the longest example has {self.longest:,}"
            )

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "examples": self.examples,
            "context": self.context,
            "tokens": self.tokens.total(),
            "by_kind": {kind.name.lower(): self.tokens[kind] for kind in Kind},
            "trained_share": self.share(TRAINED),
            "compared_share": self.share(COMPARED),
            "longest": self.longest,
            "longest_place": self.longest_place,
            "cut": self.cut,
            "lost": self.lost,
        }
