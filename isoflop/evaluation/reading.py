"""Log-likelihoods of continuations, by ids: whatever several of them share is read once.

Contexts that begin alike (few-shot prompts) have their beginning read in one row; every context is then read behind it
in a batch of about its length, and all continuations of a context side by side in its row (``inference.branches``).
Logits are made of the places that predict a token of a continuation, and of no others.

Costs against reading context and continuation anew each time: ``benchmarks/evaluate.py``. Left out: sharing by more
than one level of beginnings; mixtures of experts, which the decoder does not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from isoflop.evaluation.pieces import Ids, Pair, Row, Score, beginnings, combined, side_by_side, windows
from isoflop.inference.branches import Branches
from isoflop.inference.cache import Cache
from isoflop.inference.decoder import Decoder
from isoflop.progress import Report, silent

READ_TOKENS = 4096
"""Tokens that a pass reads, and slots that its cache has, unless a single context needs more."""
SHARED = 64
"""Beginnings are read once where they are at least so long."""
BESIDE = 64
"""Tokens of continuations that may stand beside each other behind a shorter context."""
LOGITS = 256
"""Places whose logits are held at once."""


class Reader:
    """Scores continuations with a model, at most ``tokens`` tokens a pass."""

    def __init__(self, decoder: Decoder, tokens: int = READ_TOKENS) -> None:
        self.decoder, self.tokens = decoder, tokens
        self.room = decoder.shape.context
        """Tokens that the model sees at once: those that predict a continuation, its last one not among them."""

    @torch.inference_mode()
    def score(self, pairs: Sequence[Pair], report: Report = silent) -> list[Score]:
        """The score of every pair's continuation after its context, in order.

        A context too long is cut from the left. A continuation longer than the model's context is scored in pieces,
        each behind as much as fits. Raises ValueError for an empty context or an id that the model does not have.
        """
        for context, continuation in pairs:
            self.check(context, continuation)
        parts = [list(windows(*pair, self.room, self.room)) for pair in pairs]
        wanted: dict[Ids, list[Ids]] = {}
        for context, continuation in dict.fromkeys(part for each in parts for part in each):
            wanted.setdefault(context, []).append(continuation)
        found: dict[Pair, tuple[float, bool]] = {}
        done, total = 0, sum(map(len, wanted.values()))
        for prefix, contexts in beginnings(list(wanted), SHARED):
            stem = self.begun(prefix) if prefix else None
            rows = [row for context in contexts for row in side_by_side(context, wanted[context], BESIDE)]
            for batch in self.passes(len(prefix), rows):
                found |= self.score_batch(len(prefix), stem, batch)
                done += sum(len(continuations) for _, continuations in batch)
                report("scoring", done, total)
        return [combined(pair, [(part, *found[part]) for part in own]) for pair, own in zip(pairs, parts, strict=True)]

    def check(self, context: Ids, continuation: Ids) -> None:
        """Refuse what cannot be read."""
        if not context:
            raise ValueError("a continuation needs a context of at least one token; begin with the tokenizer's bos")
        vocab = self.decoder.shape.vocab
        if bad := [i for i in (*context, *continuation) if not 0 <= i < vocab]:
            raise ValueError(f"the id {bad[0]} is not in the model's vocabulary, which ends at {vocab - 1}")

    def passes(self, shared: int, rows: list[Row]) -> Iterator[list[Row]]:
        """Batches of rows whose contexts are about as long that keep to a pass with all that is read behind them."""
        size = [len(context) + sum(max(0, len(each) - 1) for each in own) for context, own in rows]
        batch: list[int] = []
        longest = 0
        for number in sorted(range(len(rows)), key=lambda n: (len(rows[n][0]), size[n])):
            longest = max(longest, size[number])
            uneven = batch and len(rows[number][0]) - shared > 2 * (len(rows[batch[0]][0]) - shared)
            if batch and (uneven or (len(batch) + 1) * longest > self.tokens):
                yield [rows[n] for n in batch]
                batch, longest = [], size[number]
            batch.append(number)
        if batch:
            yield [rows[n] for n in batch]

    def score_batch(self, shared: int, stem: Cache | None, batch: list[Row]) -> dict[Pair, tuple[float, bool]]:
        """Score these rows' continuations; of each context ``stem`` has read the first ``shared`` tokens."""
        contexts, rows = [context for context, _ in batch], [continuations for _, continuations in batch]
        inputs = [[continuation[:-1] for continuation in row] for row in rows]
        beside = max(sum(map(len, row)) for row in inputs)
        cache = self.empty(len(contexts), max(map(len, contexts)) + beside)
        if stem is not None:
            cache.keys[:, :, :, :shared] = stem.keys[:, :, :, :shared]
            cache.values[:, :, :, :shared] = stem.values[:, :, :, :shared]
            cache.grow([shared] * len(contexts))
        states, last = self.decoder.read_texts([context[shared:] for context in contexts], cache)
        places = [states[last]]
        if beside:
            lengths = [len(context) for context in contexts]
            cache.grow(lengths)
            ids, branches = Branches.of(inputs, lengths, self.decoder.device)
            places.append(self.decoder.read(ids, cache, branches=branches))
        owners = owners_of(rows)
        targets = [token for row in rows for continuation in row for token in continuation]
        logprobs, greedy = self.look_up(torch.cat(places), owners, targets)
        found: dict[Pair, tuple[float, bool]] = {}
        at = 0
        for pair in ((context, continuation) for context, row in batch for continuation in row):
            end = at + len(pair[1])
            found[pair] = float(logprobs[at:end].sum()), bool(greedy[at:end].all())
            at = end
        return found

    def begun(self, prefix: Ids) -> Cache:
        """A cache of one row that has read a beginning."""
        cache = self.empty(1, len(prefix))
        self.decoder.read_texts([prefix], cache)
        return cache

    def look_up(self, states: Tensor, owners: list[int], targets: list[int]) -> tuple[Tensor, Tensor]:
        """Log-probability (fp64) of each target after the state that predicts it, and whether it is the likeliest."""
        owner, target = (torch.tensor(each, dtype=torch.long, device=states.device) for each in (owners, targets))
        logprobs = torch.zeros(len(targets), dtype=torch.float64, device=states.device)
        greedy = torch.zeros(len(targets), dtype=torch.bool, device=states.device)
        for start in range(0, len(states), LOGITS):
            logits = self.decoder.logits(states[start : start + LOGITS])
            here = ((owner >= start) & (owner < start + LOGITS)).nonzero().squeeze(1)
            row, token = owner[here] - start, target[here]
            logprobs[here] = (logits[row, token] - logits.logsumexp(-1)[row]).double()
            greedy[here] = logits.argmax(-1)[row] == token
        return logprobs.cpu(), greedy.cpu()

    def empty(self, rows: int, capacity: int) -> Cache:
        """A cache whose rows may hold more than the model's context, since continuations stand beside each other."""
        return Cache(self.decoder.shape, rows, capacity, self.decoder.dtype, self.decoder.device)


def owners_of(rows: list[list[Ids]]) -> list[int]:
    """Which place predicts each token of the continuations of every row, in order.

    Places are the rows' last ones, then those of all continuations' tokens but their last, one after the other.
    """
    owners: list[int] = []
    following = len(rows)
    for row, continuations in enumerate(rows):
        for continuation in filter(None, continuations):
            inner = len(continuation) - 1
            owners += [row, *range(following, following + inner)]
            following += inner
    return owners
