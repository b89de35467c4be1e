"""A unigram tokenizer (Kudo 2018) over bytes: the most likely segmentation of each word, instead of a rule of merges.

Words and bytes are those of the kind ``bpe``, so that the two differ in nothing but the algorithm: digits stand
alone, all bytes are tokens, and what sentencepiece's unigram models do to white space, rare characters and text that
spells a byte token does not arise. sentencepiece trains it, on a table of the sample's distinct words.

Counting words takes most of the time; see ``benchmarks/tokenise.py``. Memory is the distinct words of the sample.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from isoflop.tokens.sentencepiece_bpe import pieces_of, run_trainer
from isoflop.tokens.words import byte_level, pieces

_PIECE = 8192
# How many candidates the search starts with for each token that it keeps; it drops a quarter at a time.
_SEEDS = 16


def train(texts: Iterable[str], size: int) -> tokenizers.Tokenizer:
    """A tokenizer of ``size`` ids without special tokens; a ValueError if the texts are too few for that."""
    # The library reads back to the same last bit only numbers that are short.
    vocabulary = [(piece, round(score, 6)) for piece, score in pieces_of(train_model(texts, size))]
    backend = tokenizers.Tokenizer(models.Unigram(vocabulary, None, False))
    backend.pre_tokenizer = byte_level()
    backend.decoder = decoders.ByteLevel()
    return backend


def train_model(texts: Iterable[str], size: int) -> bytes:
    """sentencepiece's own model of ``size`` pieces and an unknown one, over words spelled in the byte alphabet."""
    return run_trainer(
        _table(texts),
        size,
        model_type="unigram",
        input_format="tsv",
        character_coverage=1.0,
        seed_sentencepiece_size=max(_SEEDS * size, 100_000),
        split_by_unicode_script=False,
        split_by_number=False,
        split_by_whitespace=False,
    )


def _table(texts: Iterable[str]) -> Iterator[str]:
    """The distinct words of the texts and their counts, ``word<TAB>count``, the most frequent first.

    Every byte is among them at least once: what is not in the table does not become a token.
    """
    splitter = byte_level()
    counts: Counter[str] = Counter(pre_tokenizers.ByteLevel.alphabet())
    for text in texts:
        for piece in pieces(text, _PIECE):
            counts.update(word for word, _ in splitter.pre_tokenize_str(piece))
    return (f"{word}\t{count}" for word, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))
