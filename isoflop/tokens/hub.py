"""A tokenizer as the files that stand beside a Hugging Face model: ``AutoTokenizer`` gives the same ids from them.

transformers puts the begin of a document before a text when it is asked for special tokens, as Llama does, and turns
text that spells a special token into it; ``split_special_tokens=True`` makes it treat text as text, as we always do.
"""

from __future__ import annotations

import json
from typing import Any

from isoflop.tokens.tokenizer import Tokenizer


def hub_files(tokenizer: Tokenizer, context: int) -> dict[str, bytes]:
    """The files by name: tokenizer, its config, its special tokens, and the config of generation."""
    begin, end = (tokenizer.name_of(number) for number in (tokenizer.bos, tokenizer.eos))
    special = {"bos_token": begin, "eos_token": end}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": context,
    }
    generation = {"bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.eos, "do_sample": True}
    files = {
        "tokenizer.json": with_begin(tokenizer.description, begin, tokenizer.bos),
        "tokenizer_config.json": config,
        "special_tokens_map.json": special,
        "generation_config.json": generation,
    }
    return {name: (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode() for name, value in files.items()}


def with_begin(description: dict[str, Any], begin: str, number: int) -> dict[str, Any]:
    """The tokenizer's description with a template that puts the begin of a document before a text, or each of two."""
    one, other = ({"Sequence": {"id": name, "type_id": kind}} for kind, name in enumerate("AB"))
    first, second = ({"SpecialToken": {"id": begin, "type_id": kind}} for kind in (0, 1))
    template = {
        "type": "TemplateProcessing",
        "single": [first, one],
        "pair": [first, one, second, other],
        "special_tokens": {begin: {"id": begin, "ids": [number], "tokens": [begin]}},
    }
    return {**description, "post_processor": template}
