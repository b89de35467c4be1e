"""Encoding many texts: the tokenizers library, and gigatoken where it is installed and proven to give the same ids.

gigatoken is believed for one tokenizer only after it agreed with the library on ``PROBES``, on texts that spell
the special tokens, and on the beginning of the texts that it is first asked for; until then, and wherever it
cannot read the tokenizer, the library does the work. Measured by ``benchmarks/tokenise.py``.

Left out: tiktoken, which would only serve tokenizers that gigatoken does not know; and processes, since both engines
use all cores already.
"""

import json
from collections.abc import Sequence
from importlib.metadata import version
from itertools import islice, pairwise
from typing import Any, Protocol

import numpy as np
import tokenizers
from numpy.typing import NDArray

from isoflop.tokens.probes import PROBES
from isoflop.tokens.words import is_spaced, may_cut, pieces

Ids = NDArray[np.uint32]

_PIECE = 8192
_GROUP = 256
_PROOF_CHARACTERS = 200_000


class Engine(Protocol):
    """Text to ids: one array for each text, in order."""

    name: str

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text, never a special token."""


class Library:
    """Hugging Face's tokenizers on all cores: the ids that every other engine must give.

    Texts are cut to spread them over the cores and to keep its buffers small, where the kind of words allows it.
    """

    name = f"tokenizers {tokenizers.__version__}"

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend
        self._may_cut = may_cut(json.loads(backend.to_str()))

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text."""
        cut = (
            (number, piece)
            for number, text in enumerate(texts)
            for piece in (pieces(text, _PIECE) if self._may_cut else (text,))
        )
        ids: list[list[Ids]] = [[] for _ in texts]
        while group := list(islice(cut, _GROUP)):
            encodings = self._backend.encode_batch_fast([piece for _, piece in group], add_special_tokens=False)
            for (number, _), encoding in zip(group, encodings, strict=True):
                ids[number].append(np.array(encoding.ids, dtype=np.uint32))
        return [np.concatenate(parts) for parts in ids]


class Gigatoken:
    """gigatoken on all cores.

    It is given the tokenizer's description without special tokens, which a text could spell, and without splits
    that change no id, which it does not know.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        import gigatoken

        self.name = f"gigatoken {version('gigatoken')}"
        plain = {**description, "added_tokens": []}
        if is_spaced(description):
            plain["pre_tokenizer"] = None
        self._backend = gigatoken.Tokenizer.from_json(json.dumps(plain))

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text."""
        rows = self._backend.encode_batch(list(texts)).layout
        ids = np.asarray(rows.content.data, dtype=np.uint32)
        return [ids[start:end] for start, end in pairwise(np.asarray(rows.offsets.data).tolist())]


def fastest(library: Library, backend: tokenizers.Tokenizer, texts: Sequence[str]) -> Engine:
    """The fastest engine that is installed and agrees with the library, ``texts`` being among the evidence."""
    description = json.loads(backend.to_str())
    specials = "".join(token["content"] for token in description["added_tokens"])
    evidence = [*PROBES, specials, *_beginning(texts, _PROOF_CHARACTERS)]
    try:
        engine = Gigatoken(description)
        found = engine.encode(evidence)
    except Exception:  # not installed, or a tokenizer that it cannot read: it says so in many ways
        return library
    agreed = all(map(np.array_equal, found, library.encode(evidence)))
    return engine if agreed else library


def _beginning(texts: Sequence[str], characters: int) -> list[str]:
    """The first texts, and a part of the last of them, that have so many characters together."""
    taken = []
    for text in texts:
        if characters <= 0:
            break
        taken.append(text[:characters])
        characters -= len(text)
    return taken
