"""Text to ids and back, whatever kind of tokenizer it is: ``tokens.train`` makes them, files bring them.

What every ``Tokenizer`` promises, and ``load`` checks on texts that are hard on tokenizers:

- Lossless: ``decode`` gives back the text, nothing is normalised, and ``byte_lengths`` add up to its UTF-8 bytes.
  Any text can be encoded, since all 256 bytes are tokens.
- Text is never control: a text that spells ``<|end_of_text|>`` is encoded as the characters that it is. Special
  tokens enter a sequence as ids and in no other way, and an encoder that made one out of text is stopped.

Costs: large batches go to the fastest engine that is proven to give the same ids (``tokens.engines``), which is
chosen once, at the first of them; a tokenizer without such an engine encodes a few MB of text a second on two cores.
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import xxhash
from numpy.typing import NDArray

from isoflop.files import write_bytes
from isoflop.tokens.engines import Engine, Library, fastest
from isoflop.tokens.foreign import lossless
from isoflop.tokens.probes import PROBES
from isoflop.tokens.specials import BOUNDARIES

# Below this many characters no engine is worth importing and proving.
_LARGE_BATCH = 500_000
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


class Tokenizer:
    """Text to ids and back. Build one with ``train_tokenizer`` or ``Tokenizer.load``."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        # Without this the library turns any text that spells a special token into its id.
        backend.encode_special_tokens = True
        self._backend = backend
        self._library = Library(backend)
        self._fast: Engine | None = None
        self._control = {token.content: number for number, token in backend.get_added_tokens_decoder().items()}
        self.vocab_size: int = 1 + max(backend.get_vocab().values(), default=-1)
        begin, end = next((pair for pair in BOUNDARIES if set(pair) <= self._control.keys()), BOUNDARIES[0])
        self.bos = self.special(begin)
        self.eos = self.special(end)

    def special(self, name: str) -> int:
        """The id of a special token, such as ``"<|eot_id|>"``; a ValueError if there is none of that name."""
        if name not in self._control:
            known = ", ".join(self._control) or "none"
            raise ValueError(f"the tokenizer has no special token {name}; it has {known}.")
        return int(self._control[name])

    def has(self, *names: str) -> bool:
        """Whether it has special tokens of all these names."""
        return self._control.keys() >= set(names)

    def is_special(self, number: int) -> bool:
        """Whether this id stands for no text."""
        return bool(self._is_control[number])

    def name_of(self, number: int) -> str:
        """How the special token of this id is written, such as ``"<|eot_id|>"``; a ValueError if it is not one."""
        for name, found in self._control.items():
            if found == number:
                return str(name)
        raise ValueError(f"the tokenizer has no special token with the id {number}.")

    def encode(self, text: str) -> list[int]:
        """The ids of a text; never a special token, and no begin or end is added."""
        ids: list[int] = self.encode_batch([text])[0].tolist()
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """The ids of each text, on all cores; no engine changes any id.

        Raises ValueError for a string that is not Unicode (it holds half of a surrogate pair).
        """
        if self._fast is None and sum(map(len, texts)) >= _LARGE_BATCH:
            self._fast = fastest(self._library, self._backend, texts)
        try:
            encoded = (self._fast or self._library).encode(texts)
        except (TypeError, UnicodeError):
            for text in texts:
                text.encode("utf-8")  # raises UnicodeEncodeError, a ValueError, which says where
            raise
        for text, ids in zip(texts, encoded, strict=True):
            if self._is_control[ids].any():
                raise ValueError(
                    f"the tokenizer makes a special token out of plain text ({text[:60]!r} …): use another tokenizer."
                )
        return encoded

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids. Special tokens stand for no text; bytes that are not UTF-8 become U+FFFD."""
        return str(self._backend.decode([int(number) for number in ids], skip_special_tokens=True))

    @property
    def engine(self) -> str:
        """What encodes batches, with its version: "tokenizers 0.22.2" until a large batch has found a faster one."""
        return (self._fast or self._library).name

    @property
    def kind(self) -> str:
        """The algorithm and its alphabet: "bpe" and "unigram" are of bytes, "sentencepiece-bpe" falls back on them."""
        model = self.description["model"]
        name = str(model["type"]).lower()
        return f"sentencepiece-{name}" if model.get("byte_fallback") else name

    @cached_property
    def byte_lengths(self) -> NDArray[np.int64]:
        """How many bytes of UTF-8 each id stands for, shape (vocab_size,); 0 for special tokens."""
        spelled = _spelling(self.description)
        lengths = np.zeros(self.vocab_size, dtype=np.int64)
        for token, number in self._backend.get_vocab(with_added_tokens=False).items():
            lengths[number] = spelled(token)
        lengths[self._is_control] = 0
        return lengths

    @cached_property
    def _is_control(self) -> NDArray[np.bool_]:
        control = np.zeros(self.vocab_size, dtype=np.bool_)
        control[list(self._control.values())] = True
        return control

    @cached_property
    def description(self) -> dict[str, Any]:
        """What its ``tokenizer.json`` holds; not to be changed."""
        return dict(json.loads(self._backend.to_str()))

    @property
    def checksum(self) -> str:
        """Of everything that decides which ids a text gets."""
        return xxhash.xxh3_128_hexdigest(self._backend.to_str().encode())

    def to_bytes(self) -> bytes:
        """A ``tokenizer.json`` in the format of Hugging Face's tokenizers, also read by transformers."""
        return bytes(self._backend.to_str(pretty=True).encode())

    def save(self, path: str | Path) -> None:
        """Write ``tokenizer.json``."""
        write_bytes(Path(path), self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a ``tokenizer.json``, one that isoflop wrote or another's, or the one in a folder, such as a model's.

        A ValueError if it is none, has no begin and end of document, or breaks a promise of this module. All
        tokens that another's file adds to its model are special here, whether or not the file says so; Llama 1 and 2's
        keep their ids but not the changes that they make to a text (``tokens.foreign``).
        """
        path = Path(path) / "tokenizer.json" if Path(path).is_dir() else Path(path)
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
            for token in description["added_tokens"]:
                token["special"] = True
            # A file may ask for texts to be cut off or filled up to some length, which would not be lossless.
            description |= {"truncation": None, "padding": None}
            tokenizer = cls(tokenizers.Tokenizer.from_str(json.dumps(lossless(description))))
            tokenizer._check()
        except OSError as error:
            raise ValueError(f"cannot read the tokenizer {os.fspath(path)}: {error.strerror}.") from error
        except BaseException as error:  # the library raises bare Exception for what it cannot parse, or panics
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise ValueError(f"{os.fspath(path)} is not a usable tokenizer.json: {error}") from error
        return tokenizer

    def _check(self) -> None:
        texts = [*PROBES, *self._control, " ".join(self._control)]
        for text, ids in zip(texts, self.encode_batch(texts), strict=True):
            decoded = self.decode(ids)
            if decoded != text or self.byte_lengths[ids].sum() != len(text.encode()):
                at = next((i for i, (a, b) in enumerate(zip(decoded, text, strict=False)) if a != b), 0)
                raise ValueError(
                    f"it does not keep texts as they are: {text[at : at + 12]!r} comes back as "
                    f"{decoded[at : at + 12]!r}, and losses per byte would be of another text."
                )


def _spelling(description: dict[str, Any]) -> Any:
    """How many bytes of UTF-8 a token stands for, by the way in which the tokenizer's decoder spells them."""
    decoder = description["decoder"] or {}
    steps = {step["type"]: step for step in decoder.get("decoders", [decoder]) if step}
    if "ByteLevel" in steps:
        return len  # an alphabet that spells each byte as one character
    space = "▁" if steps.keys() & {"Replace", "Metaspace"} else " "
    fallback = "ByteFallback" in steps
    return lambda token: 1 if fallback and _BYTE.fullmatch(token) else len(token.replace(space, " ").encode())
