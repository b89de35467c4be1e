"""Byte-pair encoding in the manner of Llama 1 and 2: trained by sentencepiece, kept as a ``tokenizer.json``.

As theirs: pieces of characters, none across a space or between scripts, runs of spaces among them, digits singly, line
breaks and rare characters as bytes, no normalisation. Three of their surprises are left out, each because a text
would not come back as it was or cost ids for nothing: no space is put before a text, a "▁" that the text itself has is
spelled in bytes instead of becoming a space, and there is no unknown token. So the ids are sentencepiece's own, less
one for that token, for every text without a "▁".

Holds the sample in memory, as sentencepiece does.
"""

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models

from isoflop.tokens.words import spaced

# Llama's share of the characters that get a token of their own, and at most half of the vocabulary. Never do line
# breaks, nor what means something else to sentencepiece.
_COVERAGE = 0.9995
_RESERVED = "\r\n\0▁\u2585"
# Not the machine's number of processors: how sums are divided among threads is seen in their last digits.
_THREADS = 8
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def train(texts: Iterable[str], size: int) -> tokenizers.Tokenizer:
    """A tokenizer of ``size`` ids without special tokens; a ValueError if the texts are too few for that."""
    return convert(train_model(texts, size))


def train_model(texts: Iterable[str], size: int) -> bytes:
    """sentencepiece's own model of ``size`` pieces and an unknown one, which has id 0."""
    return run_trainer(
        _runs(list(texts), size),
        size,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        character_coverage=1.0,
    )


def run_trainer(sentences: Iterator[str], size: int, **options: Any) -> bytes:
    """The model that sentencepiece trains on ``sentences``: ``size`` pieces after an unknown one. Or a ValueError."""
    sentencepiece = _import()
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences,
            model_writer=model,
            vocab_size=size + 1,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            unk_id=0,
            max_sentence_length=2**30,
            num_threads=_THREADS,
            minloglevel=2,
            **options,
        )
    except (RuntimeError, OSError) as error:  # also what is wrong with the sizes, after a line of the source code
        reason = str(error).rpartition("] ")[2].strip() or str(error)
        raise ValueError(f"sentencepiece cannot make a vocabulary of {size} from the sample: {reason}") from error
    return model.getvalue()


def pieces_of(model: bytes) -> list[tuple[str, float]]:
    """Pieces and scores of a model in the order of their ids, without the unknown one."""
    processor = _import().SentencePieceProcessor(model_proto=model)
    return [(processor.id_to_piece(i), processor.get_score(i)) for i in range(1, processor.get_piece_size())]


def convert(model: bytes) -> tokenizers.Tokenizer:
    """The same vocabulary and merges for the tokenizers library: sentencepiece's ids less one."""
    found = [piece.replace("▁", " ") for piece, _ in pieces_of(model)]
    assert found[:256] == _BYTES, "sentencepiece puts bytes first"
    ids = {piece: number for number, piece in enumerate(found)}
    # sentencepiece merges any two neighbours that are a piece together, the piece with the lowest id first.
    merges = [
        (piece[:cut], piece[cut:])
        for piece in found[256:]
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    backend = tokenizers.Tokenizer(models.BPE(ids, merges, byte_fallback=True))
    backend.pre_tokenizer = spaced()
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return backend


def _runs(texts: list[str], size: int) -> Iterator[str]:
    """The stretches of text between characters that are spelled in bytes, which nothing is merged with."""
    counts = Counter(character for text in texts for character in text)
    for reserved in _RESERVED:
        counts.pop(reserved, None)
    frequent = sorted(counts, key=lambda character: (-counts[character], character))
    covered = np.cumsum([counts[character] for character in frequent]) if frequent else np.zeros(1)
    enough = int(np.searchsorted(covered, _COVERAGE * covered[-1])) + 1
    kept = "".join(frequent[: min(enough, max(1, (size - 256) // 2))])
    others = re.compile(f"[^{re.escape(kept)}]+")
    for text in texts:
        yield from filter(None, others.split(text))


def _import() -> Any:
    try:
        import sentencepiece
    except ModuleNotFoundError as error:
        raise ValueError(
            'this kind of tokenizer is trained by sentencepiece: pip install "isoflop[corpus]", or take the kind bpe.'
        ) from error
    return sentencepiece
