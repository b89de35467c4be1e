"""A tokenizer as the files that stand beside a Hugging Face model: ``AutoTokenizer`` gives the same ids from them.

A model that answers (``chat_template``) gets its template too, and its generation stops where an answer ends. What
fills up a batch is a token of its own wherever the tokenizer has one, never the end: a model that learns to ignore its
end never stops.

transformers puts the begin of a document before a text when it is asked for special tokens, as Llama does, and turns
text that spells a special token into it; ``split_special_tokens=True`` makes it treat text as text, as we always do.
"""

from __future__ import annotations

import json
from typing import Any

from isoflop.tokens import chat_template
from isoflop.tokens.specials import PAD
from isoflop.tokens.tokenizer import Tokenizer


def hub_files(tokenizer: Tokenizer, context: int, *, chat: bool = False) -> dict[str, bytes]:
    """The files by name: tokenizer, its config, its special tokens, the config of generation; with ``chat`` a template.

    Raises ValueError where a template is asked for and the tokenizer lacks the special tokens.
    """
    begin, end = (tokenizer.name_of(number) for number in (tokenizer.bos, tokenizer.eos))
    special = {"bos_token": begin, "eos_token": end}
    generation: dict[str, Any] = {"bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.eos, "do_sample": True}
    if tokenizer.has(PAD):
        special["pad_token"] = PAD
        generation["pad_token_id"] = tokenizer.special(PAD)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": context,
    }
    if chat:
        config["chat_template"] = chat_template.TEMPLATE
        generation["eos_token_id"] = [tokenizer.eos, tokenizer.special(chat_template.END)]
    files = {
        "tokenizer.json": with_begin(tokenizer.description, begin, tokenizer.bos),
        "tokenizer_config.json": config,
        "special_tokens_map.json": special,
        "generation_config.json": generation,
    }
    found = {name: (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode() for name, value in files.items()}
    return found | ({chat_template.FILE: chat_template.TEMPLATE.encode()} if chat else {})


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
