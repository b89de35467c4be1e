"""Llama 3's chat format, built by concatenating ids: what people write is encoded as text and never becomes control.

    <|begin_of_text|><|start_header_id|>role<|end_header_id|>⏎⏎content<|eot_id|> …

Every token has a kind, from which the masks of all stages follow: supervised fine-tuning trains on ``ANSWER`` and
``END``; DPO compares ``ANSWER`` alone, and its likelihood term is that of fine-tuning (Llama 3, arXiv 2407.21783,
section 4.1.4). Contents lose white space at both ends, as in Llama 3's own template. ``tokens.chat_template`` is the
same format as a template, which on texts that spell no special token gives the same ids.

A conversation that is longer than the context is a prompt from its latest exchanges (:meth:`Chat.fit`), and an example
to its first tokens: what lies beyond the context is cut off, and one that has lost all it would train on is left out
and counted by whoever makes rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from isoflop.posttraining.conversation import Message
from isoflop.tokens.chat_template import FILE, TEMPLATE, TOKENS
from isoflop.tokens.tokenizer import Tokenizer

HEADERS = {"system": "system", "user": "user", "assistant": "assistant", "tool": "ipython"}
"""What a header says for a role."""


class Kind(IntEnum):
    """What a token is: given to the model, the header of an assistant's message, its content, its end."""

    GIVEN = 0
    HEADER = 1
    ANSWER = 2
    END = 3


TRAINED = (Kind.ANSWER, Kind.END)
"""What supervised fine-tuning trains on."""
COMPARED = (Kind.ANSWER,)
"""What DPO compares."""


class Encoded(NamedTuple):
    """Ids, and the kind of each."""

    ids: list[int]
    kinds: list[Kind]


class Fitted(NamedTuple):
    """The ids of a prompt, and how many messages were left out of it for lack of room."""

    ids: list[int]
    left_out: int


class Chat:
    """The format over one tokenizer; a ValueError if that lacks the special tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        if not tokenizer.has(*TOKENS):
            raise ValueError(
                f"the chat format needs the special tokens {', '.join(TOKENS)}, and this tokenizer lacks some; those "
                "that `isoflop prepare` and `isoflop tokenizers train` make have them, and so have Llama 3's"
            )
        self.tokenizer = tokenizer
        self.begin_header, self.end_header, self.end = (tokenizer.special(name) for name in TOKENS)
        self.newlines = tokenizer.encode("\n\n")
        self.names = {role: tokenizer.encode(name) for role, name in HEADERS.items()}

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end an answer."""
        return self.end, self.tokenizer.eos

    @property
    def files(self) -> dict[str, bytes]:
        """What lies beside the weights of a model that was trained to answer in this format, by file name."""
        return {FILE: TEMPLATE.encode()}

    def header(self, role: str) -> list[int]:
        """The ids before a message's content."""
        return [self.begin_header, *self.names[role], self.end_header, *self.newlines]

    def content(self, text: str) -> list[int]:
        """The ids of what is said; control tokens that it spells are text."""
        return self.tokenizer.encode(text.strip())

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a conversation so far and the header of the assistant's next message."""
        return self.encode(messages).ids + self.header("assistant")

    def answer(self, text: str) -> Encoded:
        """What follows a prompt when the assistant says ``text``."""
        ids = self.content(text)
        return Encoded([*ids, self.end], [Kind.ANSWER] * len(ids) + [Kind.END])

    def encode(self, messages: Sequence[Message]) -> Encoded:
        """A whole conversation."""
        ids, kinds = [self.tokenizer.bos], [Kind.GIVEN]
        for message in messages:
            header, said = self.header(message.role), self.answer(message.content)
            own = message.role == "assistant" and message.learned
            ids += header + said.ids
            kinds += [Kind.HEADER if own else Kind.GIVEN] * len(header)
            kinds += said.kinds if own else [Kind.GIVEN] * len(said.ids)
        return Encoded(ids, kinds)

    def fit(self, messages: Sequence[Message], most: int) -> Fitted:
        """A prompt of at most ``most`` tokens: whole earliest exchanges are left out of it, never the system's message.

        An exchange is what a user says and all that follows until the user speaks again. A ValueError where the last
        one alone is too long.
        """
        system = [message for message in messages[:1] if message.role == "system"]
        spoken = messages[len(system) :]
        starts = [0, *(i for i, message in enumerate(spoken) if message.role == "user" and i)]
        lengths = [len(self.encode([message]).ids) - 1 for message in spoken]
        fixed = len(self.prompt(system))
        for start in starts:
            if fixed + sum(lengths[start:]) <= most:
                return Fitted(self.prompt([*system, *spoken[start:]]), start)
        needed = fixed + sum(lengths[starts[-1] :])
        raise ValueError(
            f"the last message with what has to come before it takes {needed:,} tokens and there is room for "
            f"{max(0, most):,}; shorten it, or the system's message, or leave less room for the answer"
        )


def spans(encoded: Encoded) -> list[tuple[Kind, list[int]]]:
    """The tokens in runs of one kind."""
    found: list[tuple[Kind, list[int]]] = []
    for number, kind in zip(*encoded, strict=True):
        if not found or found[-1][0] != kind:
            found.append((kind, []))
        found[-1][1].append(number)
    return found
