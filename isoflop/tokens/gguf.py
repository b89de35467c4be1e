"""A tokenizer under the keys by which a GGUF file keeps it, as llama.cpp reads them.

The kind ``bpe`` becomes its ``gpt2``, for two ways of splitting words that llama.cpp knows by name; ours is Qwen
3.5's. ``sentencepiece-bpe`` becomes its ``llama``, which merges by score: the lower an id the sooner, as sentencepiece
does. llama.cpp takes a literal U+2581 for a space there, which we do not. Left out: ``unigram``, whose alphabet of
bytes llama.cpp's own unigram does not have.
"""

from __future__ import annotations

import json
import re
from typing import Any

from isoflop.tokens import chat_template
from isoflop.tokens.specials import PAD
from isoflop.tokens.tokenizer import Tokenizer
from isoflop.tokens.words import WORDS

LLAMA_3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Ways to split words and what llama.cpp calls them.
WAYS = {WORDS: "qwen35", LLAMA_3_WORDS: "llama-bpe"}
NORMAL, CONTROL, UNUSED, BYTE = 1, 3, 5, 6
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


def vocabulary(tokenizer: Tokenizer, size: int, *, chat: bool = False) -> dict[str, Any]:
    """The values by key, for a model with ``size`` ids: those without a token are unused.

    With ``chat`` the template is among them, and what ends an answer.

    Raises ValueError for a tokenizer that llama.cpp has no way to be.
    """
    model = tokenizer.description["model"]
    build = {"bpe": _byte_level, "sentencepiece-bpe": _sentencepiece}.get(tokenizer.kind)
    if build is None:
        raise ValueError(f"llama.cpp has no tokenizer of the kind {tokenizer.kind}; export with --format hf")
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [UNUSED] * size
    for token, number in model["vocab"].items():
        tokens[number], types[number] = token, NORMAL
    for added in tokenizer.description["added_tokens"]:
        tokens[added["id"]], types[added["id"]] = added["content"], CONTROL
    return build(tokenizer, tokens, types) | {
        "tokenizer.ggml.bos_token_id": tokenizer.bos,
        "tokenizer.ggml.eos_token_id": tokenizer.eos,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        **(_answering(tokenizer) if chat else {}),
    }


def _answering(tokenizer: Tokenizer) -> dict[str, Any]:
    found = {
        "tokenizer.chat_template": chat_template.without_marks(),
        "tokenizer.ggml.eot_token_id": tokenizer.special(chat_template.END),
    }
    if tokenizer.has(PAD):
        found["tokenizer.ggml.padding_token_id"] = tokenizer.special(PAD)
    return found


def _byte_level(tokenizer: Tokenizer, tokens: list[str], types: list[int]) -> dict[str, Any]:
    merges = [
        merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer.description["model"]["merges"]
    ]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _way(tokenizer.description["pre_tokenizer"]),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": merges,
    }


def _sentencepiece(tokenizer: Tokenizer, tokens: list[str], types: list[int]) -> dict[str, Any]:
    kinds = [
        BYTE if kind == NORMAL and BYTE_TOKEN.fullmatch(t) else kind for t, kind in zip(tokens, types, strict=True)
    ]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [token.replace(" ", "▁") for token in tokens],
        "tokenizer.ggml.scores": [-float(number) if kind == NORMAL else 0.0 for number, kind in enumerate(kinds)],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.add_space_prefix": False,
    }


def _way(pre_tokenizer: Any) -> str:
    patterns = re.findall(r'"Regex": ("(?:[^"\\]|\\.)*")', json.dumps(pre_tokenizer))
    for pattern, name in WAYS.items():
        if [json.loads(found) for found in patterns] == [pattern]:
            return name
    raise ValueError(
        "llama.cpp knows no name for the way in which this tokenizer splits words; export with --format hf"
    )
