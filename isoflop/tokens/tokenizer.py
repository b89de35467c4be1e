"""A byte-level BPE tokenizer in the manner of Llama 3, trained on the corpus at hand.

Text is cut into words, numbers, punctuation and white space, and merges never cross those cuts. Two things
differ from Llama 3: a digit is always a token of its own (Llama 3 takes up to three together; merges across
digits make arithmetic depend on how a number happens to be cut), and combining marks stay with their letters.
All 256 bytes are tokens, so any text can be encoded, losslessly and without normalisation. The special tokens
are Llama 3's, in its order, at the top of the range of ids.

Text is never control: a text that spells ``<|end_of_text|>`` is encoded as the bytes that it is. Special
tokens enter a sequence as ids and in no other way.

Training and encoding go through about 3.5 MB of text a second on two cores.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import tokenizers
import xxhash
from numpy.typing import NDArray
from tokenizers import decoders, models, pre_tokenizers, trainers

from isoflop.files import write_bytes

BOS = "<|begin_of_text|>"
EOS = "<|end_of_text|>"
SPECIAL_TOKENS = (
    BOS,
    EOS,
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|reserved_special_token_2|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    *(f"<|reserved_special_token_{number}|>" for number in range(3, 8)),
)

# The trainer counts pairs in 32 bits and wraps silently. A byte begins one pair: below this size none can.
LARGEST_SAMPLE = 2**31 - 1

_WORDS = "|".join(
    (
        r"(?i:'(?:s|t|m|d|re|ve|ll))",  # the endings of English contractions
        r"[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+",  # a word, with one space or sign before it
        r"\p{N}",  # one digit
        r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",  # signs, to the end of the line if they end it
        r"\s*[\r\n]+",  # blank lines
        r"\s+(?!\S)",  # indentation, less the space that belongs to the next word
        r"\s+",
    )
)

# No word reaches from a newline to what is not white space, nor from a letter to a space: a text cut there
# encodes as if whole. (A "letter" here is what both Python and the tokenizer's expressions call one.)
_CUT = re.compile(r"\n(?=\S)|(?<=[^\W\d_])(?= [^\W\d_])")
_PIECE = 8192
_GROUP = 256


class Tokenizer:
    """Text to ids and back. Build one with ``train_tokenizer`` or ``Tokenizer.load``."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        # Without this the library turns any text that spells a special token into its id.
        backend.encode_special_tokens = True
        self._backend = backend
        self.vocab_size: int = backend.get_vocab_size()
        self.bos = self.special(BOS)
        self.eos = self.special(EOS)

    def special(self, name: str) -> int:
        """The id of a special token, such as ``"<|eot_id|>"``; a ValueError if there is none of that name."""
        id_of = {token.content: number for number, token in self._backend.get_added_tokens_decoder().items()}
        if name not in id_of:
            raise ValueError(f"the tokenizer has no special token {name}; it has {', '.join(id_of) or 'none'}.")
        return int(id_of[name])

    def encode(self, text: str) -> list[int]:
        """The ids of a text; never a special token, and no begin or end is added."""
        ids: list[int] = self.encode_batch([text])[0].tolist()
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """The ids of each text, on all cores. Texts are cut to spread them, which changes no id.

        Raises ValueError for a string that is not Unicode (it holds half of a surrogate pair).
        """
        pieces = ((number, piece) for number, text in enumerate(texts) for piece in _pieces(text))
        ids: list[list[NDArray[np.uint32]]] = [[] for _ in texts]
        while group := list(islice(pieces, _GROUP)):
            try:
                encodings = self._backend.encode_batch_fast([piece for _, piece in group], add_special_tokens=False)
            except TypeError:
                for _, piece in group:
                    piece.encode("utf-8")  # raises UnicodeEncodeError, a ValueError, which says where
                raise
            for (number, _), encoding in zip(group, encodings, strict=True):
                ids[number].append(np.array(encoding.ids, dtype=np.uint32))
        return [np.concatenate(parts) for parts in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids. Special tokens stand for no text; bytes that are not UTF-8 become U+FFFD."""
        return str(self._backend.decode([int(number) for number in ids], skip_special_tokens=True))

    @cached_property
    def byte_lengths(self) -> NDArray[np.int64]:
        """How many bytes of UTF-8 each id stands for, shape (vocab_size,); 0 for special tokens."""
        lengths = np.zeros(self.vocab_size, dtype=np.int64)
        for token, number in self._backend.get_vocab(with_added_tokens=False).items():
            lengths[number] = len(token)  # the byte-level alphabet spells each byte as one character
        return lengths

    @property
    def checksum(self) -> str:
        """Of everything that decides which ids a text gets."""
        return xxhash.xxh3_128_hexdigest(self._backend.to_str().encode())

    def save(self, path: str | Path) -> None:
        """Write ``tokenizer.json`` in the format of Hugging Face's tokenizers, also read by transformers."""
        write_bytes(Path(path), self._backend.to_str(pretty=True).encode())

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a ``tokenizer.json``; a ValueError if it is not one, or not of Llama 3's family."""
        try:
            text = Path(path).read_text(encoding="utf-8")
            json.loads(text)
            return cls(tokenizers.Tokenizer.from_str(text))
        except OSError as error:
            raise ValueError(f"cannot read the tokenizer {os.fspath(path)}: {error.strerror}.") from error
        except Exception as error:  # the library raises bare Exception for whatever it cannot parse
            raise ValueError(f"{os.fspath(path)} is not a usable tokenizer.json: {error}") from error


def train_tokenizer(texts: Iterable[str], vocab_size: int, max_bytes: int = 10_000_000) -> Tokenizer:
    """A tokenizer of exactly ``vocab_size`` ids with special tokens, from the first ``max_bytes``.

    Deterministic: the same texts give the same tokenizer. Raises ValueError if the size is out of range, or
    if the texts do not hold enough different words for so many merges.
    """
    check_vocab_size(vocab_size)
    if max_bytes > LARGEST_SAMPLE:
        raise ValueError(
            f"{max_bytes} bytes to train the tokenizer on: above {LARGEST_SAMPLE} the trainer's 32-bit "
            "counts can wrap and spoil the vocabulary without a word; a sample of some MB is enough."
        )
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    merged_size = vocab_size - len(SPECIAL_TOKENS)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=merged_size, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(_first_bytes(texts, max_bytes), trainer)
    if (found := backend.get_vocab_size()) < merged_size:
        raise ValueError(
            f"the corpus is too small for a vocabulary of {vocab_size}: it gives "
            f"{found + len(SPECIAL_TOKENS)}. Ask for a smaller one, or give more text."
        )
    backend.add_special_tokens(
        [tokenizers.AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS]
    )
    return Tokenizer(backend)


def check_vocab_size(vocab_size: int) -> None:
    """A ValueError unless the vocabulary has room for all bytes, one merge, and the special tokens."""
    smallest = 256 + 1 + len(SPECIAL_TOKENS)
    if not smallest <= vocab_size <= 2**32:
        raise ValueError(
            f"vocab_size is {vocab_size}: it must be at least {smallest}, for all bytes, the "
            f"{len(SPECIAL_TOKENS)} special tokens and a merge."
        )


def _first_bytes(texts: Iterable[str], budget: int) -> Iterator[str]:
    for text in texts:
        data = text.encode("utf-8")
        yield text if len(data) <= budget else data[:budget].decode("utf-8", errors="ignore")
        budget -= len(data)
        if budget <= 0:
            return


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while cut := _CUT.search(text, start + _PIECE):
        yield text[start : cut.end()]
        start = cut.end()
    yield text[start:]
