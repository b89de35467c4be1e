"""Llama 1 and 2's vocabulary under our promises: no text changed on the way in, all of it back on the way out.

Their ``tokenizer.json`` spells a space as ▁, so that a text's own ▁ comes back as a space, and puts a space before
every text. Here the same ids are kept and both are left out: pieces have real spaces, a ▁ is spelled in bytes, and a
text begins as it is. What follows its first word gets the very ids that the original gives it. Tokenizers over bytes,
as Llama 3's, need nothing of this.
"""

from __future__ import annotations

import json
import re
from typing import Any

import tokenizers
from tokenizers import decoders

from isoflop.tokens.words import SPACED_WORDS, spaced

SPACE = "▁"


def lossless(description: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer's description as it is, or one of the sentencepiece family with its spaces spelled as spaces.

    Raises ValueError where the vocabulary has both spellings of one piece.
    """
    if not _spells_spaces(description):
        return description
    model = description["model"]
    control = {token["content"] for token in description["added_tokens"]}
    ids = {_spaced(token): number for token, number in model["vocab"].items()}
    if len(ids) < len(model["vocab"]):
        raise ValueError(f"its vocabulary has pieces with a space and the same with {SPACE}")
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    # A text that spells <s> must not be merged into it.
    merges = [[_spaced(part) for part in pair] for pair in pairs if "".join(pair) not in control]
    return description | {
        "normalizer": None,
        "pre_tokenizer": _state("pre_tokenizer", spaced()) if _keeps_words(ids) else None,
        "decoder": _state("decoder", decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])),
        "model": model | {"vocab": ids, "merges": merges},
    }


def _spells_spaces(description: dict[str, Any]) -> bool:
    """Whether it does nothing to a text but to spell spaces as ▁, one before the text perhaps, by either recipe."""
    model, normalizer, words = (description.get(key) or {} for key in ("model", "normalizer", "pre_tokenizer"))
    if model.get("type") != "BPE" or not model.get("byte_fallback"):
        return False
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    steps = normalizer.get("normalizers", [normalizer] if normalizer else [])
    by_normalizer = [step for step in steps if step.get("type") != "Prepend"] == [replace] and not words
    by_splitter = not steps and words.get("type") == "Metaspace" and words.get("replacement") == SPACE
    return bool(by_normalizer or by_splitter)


def _spaced(token: str) -> str:
    return token.replace(SPACE, " ")


def _keeps_words(pieces: dict[str, int]) -> bool:
    """Whether no piece reaches from one of ``SPACED_WORDS`` into the next, so that splitting there changes no id."""
    words = re.compile(SPACED_WORDS)
    return all(words.fullmatch(piece) for piece in pieces)


def _state(key: str, part: Any) -> Any:
    """How a part of a tokenizer is described."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    setattr(tokenizer, key, part)
    return json.loads(tokenizer.to_str())[key]
