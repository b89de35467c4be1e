"""Llama 3's chat format, built by concatenating ids: what people write is encoded as text and never becomes control.

    <|begin_of_text|><|start_header_id|>role<|end_header_id|>⏎⏎content<|eot_id|> …

Every token has a kind, from which the masks of all stages follow: supervised fine-tuning trains on ``ANSWER`` and
``END``; DPO compares ``ANSWER`` alone, and its likelihood term is that of fine-tuning (Llama 3, arXiv 2407.21783,
section 4.1.4). Contents lose white space at both ends, as in Llama 3's own template.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from isoflop.posttraining.conversation import Message
from isoflop.tokens.tokenizer import Tokenizer

HEADERS = {"system": "system", "user": "user", "assistant": "assistant", "tool": "ipython"}
"""What a header says for a role."""


class Kind(IntEnum):
    """What a token is: given to the model, the header of an assistant's message, its content, its end."""

    GIVEN = 0
    HEADER = 1
    ANSWER = 2
    END = 3


class Encoded(NamedTuple):
    """Ids, and the kind of each."""

    ids: list[int]
    kinds: list[Kind]


class Chat:
    """The format over one tokenizer; a ValueError if that lacks the special tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        names = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
        self.begin_header, self.end_header, self.end = (tokenizer.special(name) for name in names)
        self.newlines = tokenizer.encode("\n\n")

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end an answer."""
        return self.end, self.tokenizer.eos

    def header(self, role: str) -> list[int]:
        """The ids before a message's content."""
        return [self.begin_header, *self.tokenizer.encode(HEADERS[role]), self.end_header, *self.newlines]

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
            own = message.role == "assistant"
            ids += header + said.ids
            kinds += [Kind.HEADER if own else Kind.GIVEN] * len(header)
            kinds += said.kinds if own else [Kind.GIVEN] * len(said.ids)
        return Encoded(ids, kinds)
