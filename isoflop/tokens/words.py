"""What a word is to a tokenizer, and where a long text may be cut without changing a single id.

The expression is spelled as Qwen 3.5 spells its own, letter for letter, because fast encoders know expressions by
their spelling. It is Llama 3's but for two things: a digit is always a word of its own (Llama 3 takes up to three
together; merges across digits make arithmetic depend on how a number happens to be cut), and combining marks stay
with their letters.
"""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import tokenizers
from tokenizers import models, pre_tokenizers

WORDS = "|".join(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",  # the endings of English contractions
        r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",  # a word, with one space or sign before it
        r"\p{N}",  # one digit
        r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",  # signs, to the end of the line if they end it
        r"\s*[\r\n]+",  # blank lines
        r"\s+(?!\S)",  # indentation, less the space that belongs to the next word
        r"\s+",
    )
)

# What sentencepiece never merges across: before a space that follows something else, and around line breaks, which
# its vocabulary has as bytes only.
SPACED_WORDS = r" *[^ \r\n]+|[\r\n]| +"

# No word of either kind reaches from a newline to what is not white space, nor from a letter to a space: a text cut
# there encodes as if whole. (A "letter" here is what both Python and the tokenizer's expressions call one.)
_CUT = re.compile(r"\n(?=\S)|(?<=[^\W\d_])(?= [^\W\d_])")


def byte_level() -> Any:
    """Splits a text into ``WORDS`` and spells each of their bytes as one letter."""
    split = pre_tokenizers.Split(tokenizers.Regex(WORDS), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def spaced() -> Any:
    """Splits a text into ``SPACED_WORDS``."""
    return pre_tokenizers.Split(tokenizers.Regex(SPACED_WORDS), "isolated")


def may_cut(description: dict[str, Any]) -> bool:
    """Whether a tokenizer, as its file describes it, splits texts in one of these ways and changes nothing before."""
    ways = (_described(byte_level), _described(spaced))
    return description["normalizer"] is None and description["pre_tokenizer"] in ways


def is_spaced(description: dict[str, Any]) -> bool:
    """Whether it splits texts into ``SPACED_WORDS``, which only spares work: its merges cross no such word anyway."""
    return bool(description["pre_tokenizer"] == _described(spaced))


@cache
def _described(splitter: Callable[[], Any]) -> Any:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter()
    return json.loads(tokenizer.to_str())["pre_tokenizer"]


def pieces(text: str, length: int) -> Iterator[str]:
    """The text in pieces of at least ``length`` characters, cut where no word of ``WORDS`` or ``SPACED_WORDS`` is."""
    start = 0
    while cut := _CUT.search(text, start + length):
        yield text[start : cut.end()]
        start = cut.end()
    yield text[start:]
