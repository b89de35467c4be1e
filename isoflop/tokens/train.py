"""Training a tokenizer on the corpus at hand, of one of three kinds.

- ``bpe``: byte-level byte-pair encoding in the manner of Llama 3, by the tokenizers library. The default.
- ``sentencepiece-bpe``: byte-pair encoding of characters in the manner of Llama 1 and 2, by sentencepiece
  (``tokens.sentencepiece_bpe``).
- ``unigram``: the same words and bytes as ``bpe``, segmented by likelihood (``tokens.unigram``).

All have the special tokens of Llama 3 at the top of their ids, a token for each byte, digits by themselves, and are
written as ``tokenizer.json``. All are deterministic.

Left out: rustbpe, which breaks ties in another way (on 7.5 MB of text and 7,920 merges the order departs at the 647th,
and 5 tokens are others) and was no faster here; the unigram trainer of the tokenizers library, which gave another
vocabulary the second time and took minutes for the same text.
"""

from collections.abc import Iterable, Iterator

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from isoflop.tokens import sentencepiece_bpe, unigram
from isoflop.tokens.specials import SPECIAL_TOKENS
from isoflop.tokens.tokenizer import Tokenizer
from isoflop.tokens.words import byte_level

KINDS = ("bpe", "sentencepiece-bpe", "unigram")

# The trainers count pairs in 32 bits and wrap silently. A byte begins one pair: below this size none can.
LARGEST_SAMPLE = 2**31 - 1


def train_tokenizer(texts: Iterable[str], vocab_size: int, max_bytes: int = 10_000_000, kind: str = "bpe") -> Tokenizer:
    """A tokenizer of exactly ``vocab_size`` ids with special tokens, from the first ``max_bytes``.

    Deterministic: the same texts give the same tokenizer. Raises ValueError if the size is out of range, or
    if the texts do not hold enough different words for so many merges.
    """
    check_tokenizer(kind, vocab_size)
    if max_bytes > LARGEST_SAMPLE:
        raise ValueError(
            f"{max_bytes} bytes to train the tokenizer on: above {LARGEST_SAMPLE} the trainer's 32-bit "
            "counts can wrap and spoil the vocabulary without a word; a sample of some MB is enough."
        )
    train = {"bpe": _bpe, "sentencepiece-bpe": sentencepiece_bpe.train, "unigram": unigram.train}[kind]
    merged_size = vocab_size - len(SPECIAL_TOKENS)
    backend = train(_first_bytes(texts, max_bytes), merged_size)
    if (found := backend.get_vocab_size()) < merged_size:
        raise ValueError(
            f"the corpus is too small for a vocabulary of {vocab_size}: it gives "
            f"{found + len(SPECIAL_TOKENS)}. Ask for a smaller one, or give more text."
        )
    backend.add_special_tokens(
        [tokenizers.AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS]
    )
    return Tokenizer(backend)


def check_tokenizer(kind: str, vocab_size: int) -> None:
    """A ValueError unless the kind exists and the vocabulary has room for all bytes, one merge and special tokens."""
    if kind not in KINDS:
        raise ValueError(f"tokenizer_kind is {kind!r}: it must be one of {', '.join(KINDS)}.")
    smallest = 256 + 1 + len(SPECIAL_TOKENS)
    if not smallest <= vocab_size <= 2**32:
        raise ValueError(
            f"vocab_size is {vocab_size}: it must be at least {smallest}, for all bytes, the "
            f"{len(SPECIAL_TOKENS)} special tokens and a merge."
        )


def _bpe(texts: Iterable[str], size: int) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = byte_level()
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(texts, trainer)
    return backend


def _first_bytes(texts: Iterable[str], budget: int) -> Iterator[str]:
    for text in texts:
        data = text.encode("utf-8")
        yield text if len(data) <= budget else data[:budget].decode("utf-8", errors="ignore")
        budget -= len(data)
        if budget <= 0:
            return
