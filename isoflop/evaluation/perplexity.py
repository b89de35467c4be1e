"""How well a model predicts texts: nats per token, and bits per byte, by which models of other tokenizers compare.

A document is bos and its ids, read in windows of the model's context. Windows move by ``stride`` tokens: all of the
context for the least work, half of it so that no token but a document's first ones has less than half a context before
it, which is what long texts are worth to a reader of the whole. Bytes are those of the text, counted and not estimated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from isoflop.evaluation.intervals import ratio
from isoflop.evaluation.likelihood import Scorer
from isoflop.evaluation.pieces import Pair, windows
from isoflop.evaluation.result import Result
from isoflop.progress import Report, silent


def predict(scorer: Scorer, texts: Sequence[str], *, stride: int | None = None, report: Report = silent) -> Result:
    """Nats per token and bits per byte of texts; intervals are over documents, over windows where there are few.

    ``stride`` is half of the model's context unless told otherwise. Raises ValueError where no text has a token.
    """
    room = scorer.reader.room
    stride = stride or max(1, room // 2)
    tokenizer = scorer.tokenizer
    encoded = [tuple(ids.tolist()) for ids in tokenizer.encode_batch(texts)]
    parts: list[Pair] = []
    documents: list[int] = []
    for number, ids in enumerate(encoded):
        if ids:
            own = list(windows((tokenizer.bos,), ids, room, stride))
            parts += own
            documents += [number] * len(own)
    if not parts:
        raise ValueError("there is no text to predict: all documents are empty")
    nats = [-score.logprob for score in scorer.reader.score(parts, report)]
    tokens = [float(len(predicted)) for _, predicted in parts]
    held = [float(tokenizer.byte_lengths[list(predicted)].sum()) for _, predicted in parts]
    clusters = documents if len(set(documents)) >= FEW else None
    bits = [each / math.log(2) for each in nats]
    return Result(
        "bits per byte",
        {"bits per byte": ratio(bits, held, clusters), "nats per token": ratio(nats, tokens, clusters)},
        tuple(b / h if h else 0.0 for b, h in by_document(bits, held, documents)),
        counts={
            "documents": len(encoded),
            "bytes": sum(len(text.encode()) for text in texts),
            "tokens": int(sum(tokens)),
        },
    )


FEW = 10
"""Documents of which there are fewer say little about others, and windows stand for them."""


def by_document(bits: list[float], held: list[float], documents: list[int]) -> list[tuple[float, float]]:
    """Bits and bytes of every document, added up over its windows."""
    sums: dict[int, tuple[float, float]] = {}
    for number, b, h in zip(documents, bits, held, strict=True):
        before = sums.get(number, (0.0, 0.0))
        sums[number] = before[0] + b, before[1] + h
    return list(sums.values())
