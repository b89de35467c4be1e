"""How likely a model finds texts after texts, with the boundary between them where lm-evaluation-harness has it.

Context and continuation are encoded as one text and split where the context's own ids end, after white space at the
end of the context was given to the continuation; a context begins with the tokenizer's bos, and an empty one is that
alone. So a score equals that of the harness on the exported model. Text is never control: where a text spells
``<|eot_id|>`` the harness scores one token, and here it is the characters that it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from isoflop.evaluation.pieces import Ids, Pair, Score
from isoflop.evaluation.reading import Reader
from isoflop.inference.decoder import Decoder
from isoflop.inference.load import load_model
from isoflop.progress import Report, silent
from isoflop.tokens.tokenizer import Tokenizer


class Scorer:
    """A model that scores texts."""

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer) -> None:
        self.decoder, self.tokenizer, self.reader = decoder, tokenizer, Reader(decoder)

    @classmethod
    def open(
        cls, path: Path, *, averaged: bool = False, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> Scorer:
        """The model at ``path`` (``inference.load.load_model``), in fp32 on the CPU unless told otherwise."""
        model, tokenizer = load_model(path, averaged=averaged)
        return cls(Decoder(model.to(device or torch.device("cpu")), dtype=dtype), tokenizer)

    def score(self, pairs: Sequence[tuple[str, str]], report: Report = silent) -> list[Score]:
        """The scores of continuations after contexts, in order; equal contexts are read once.

        An empty continuation has log-probability 0. Raises ValueError for a text that is no Unicode.
        """
        return self.reader.score(self.encode(pairs), report)

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[Pair]:
        """Pairs of texts as pairs of ids."""
        moved = [at_boundary(*pair) for pair in pairs]
        contexts = list(dict.fromkeys(context for context, _ in moved))
        texts = [*contexts, *(context + continuation for context, continuation in moved)]
        encoded = [tuple(ids.tolist()) for ids in self.tokenizer.encode_batch(texts)]
        known = dict(zip(contexts, encoded, strict=False))
        bos = (self.tokenizer.bos,)
        return [
            (bos + known[context], self.behind(known[context], whole, continuation))
            for (context, continuation), whole in zip(moved, encoded[len(contexts) :], strict=True)
        ]

    def behind(self, context: Ids, whole: Ids, continuation: str) -> Ids:
        """The continuation's ids in ``whole``; its own where a merge over the boundary leaves none of them."""
        return whole[len(context) :] or tuple(self.tokenizer.encode(continuation))


def at_boundary(context: str, continuation: str) -> tuple[str, str]:
    """The pair with white space at the end of the context moved to the continuation, where tokens have it."""
    bare = context.rstrip()
    return bare, context[len(bare) :] + continuation
