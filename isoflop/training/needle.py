"""The needle test: a fact hidden at some depth of a long text, asked for at its end.

The text is held-out tokens without the marks of documents, the fact one sentence of :mod:`isoflop.tokens.recall`. Two
scores of the answer, both from one forward pass over exactly the context's length: *choice*, whether its first token is
likelier than that of every other word it could have been, which a small model can pass and chance passes once in
``choices``; and *exact*, whether greedy decoding would write it to its end. Left out: several needles at once, and
questions whose words are not the fact's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from isoflop.keys import derive_key
from isoflop.model.llama import Llama
from isoflop.shares import wilson
from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.packing import PADDING
from isoflop.tokens.recall import NAMES, WORDS, question
from isoflop.tokens.tokenizer import Tokenizer
from isoflop.training.loss import capped
from isoflop.training.ranks import Ranks

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
FEWEST = 4
"""Words that a tokenizer must tell apart by their first token for the test to mean anything."""


@dataclass(frozen=True)
class Score:
    """How ``trials`` tests at one length and depth went: how many were solved, and nats per answer."""

    length: int
    depth: float
    trials: int
    choices: int
    chosen: int
    exact: int
    nats: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the share chosen (Wilson's)."""
        return wilson(self.chosen, self.trials)

    def to_json(self) -> dict[str, Any]:
        """The score as plain values."""
        return {
            "length": self.length,
            "depth": self.depth,
            "trials": self.trials,
            "choices": self.choices,
            "choice": self.chosen / self.trials,
            "choice_interval": list(self.interval),
            "exact": self.exact / self.trials,
            "nats": self.nats,
        }


@dataclass(frozen=True)
class Needles:
    """Tests at one length: inputs (rows, length), the answers that end each row (rows, longest), padded in front.

    ``truth`` (rows,) is the number among ``words`` (choices,), the first tokens of what the answer could be.
    """

    tokens: Tensor
    answers: Tensor
    truth: Tensor
    words: Tensor
    depths: tuple[float, ...]

    @classmethod
    def of(
        cls, dataset: TokenDataset, length: int, trials: int, depths: Sequence[float] = DEPTHS, seed: int = 0
    ) -> Needles:
        """``trials`` tests at each depth in held-out text; the same ones for the same dataset and seed."""
        tokenizer, hay = dataset.tokenizer, Hay(dataset)
        answers = distinct_words(tokenizer)
        longest = max(len(ids) for ids in answers)
        rows, targets, truth = [], [], []
        rng = np.random.default_rng(derive_key(seed, "needle", length))
        for depth in depths:
            for _ in range(trials):
                name, number = NAMES[rng.integers(len(NAMES))], int(rng.integers(len(answers)))
                row = hide(tokenizer, hay, name, answers[number], length, depth, rng)
                rows.append(row[:length])
                targets.append([PADDING] * (longest - len(answers[number])) + answers[number])
                truth.append(number)
        words = torch.tensor([ids[0] for ids in answers])
        return cls(torch.tensor(rows), torch.tensor(targets), torch.tensor(truth), words, tuple(depths))

    def measure(self, model: Llama, ranks: Ranks, micro_tokens: int) -> list[Score]:
        """The score at each depth, the tests shared by the ranks.

        The network runs as in validation, in equal batches, so that graphs compiled for training serve.
        """
        count, length = self.tokens.shape
        rows = min(count, max(1, micro_tokens // length))
        numbers = torch.arange(-(-count // rows) * rows)  # the first ones again where the last batch is not full
        found, batches = torch.zeros(len(numbers), 3, device=model.embedding.device), torch.split(numbers, rows)
        for batch in batches[slice(*ranks.share(0, len(batches)))]:
            found[batch] = self.judge(model, batch % count)
        ranks.add(found)
        trials = count // len(self.depths)
        by_depth = found[:count].view(len(self.depths), trials, 3).sum(1).tolist()
        return [
            Score(length, depth, trials, len(self.words), round(chosen), round(exact), nats / trials)
            for depth, (chosen, exact, nats) in zip(self.depths, by_depth, strict=True)
        ]

    def judge(self, model: Llama, batch: Tensor) -> Tensor:
        """Of each row in the batch: whether it was chosen, whether it was exact, nats of its answer; (rows, 3)."""
        device = model.embedding.device
        targets, truth = self.answers[batch].to(device), self.truth[batch].to(device)
        hidden = model.hidden(self.tokens[batch].to(device))[:, -targets.shape[1] :].detach()
        with torch.no_grad():
            logits = capped(F.linear(hidden, model.head.to(hidden.dtype)).float(), model.shape.logit_cap)
            real = targets != PADDING
            first = real.int().argmax(1)
            among = logits[torch.arange(len(batch), device=device), first][:, self.words.to(device)]
            exact = ((logits.argmax(-1) == targets) | ~real).all(1)
            nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PADDING, reduction="none")
            chosen = among.argmax(1) == truth
            return torch.stack([chosen.float(), exact.float(), nats.view(targets.shape).sum(1)], 1)


class Hay:
    """Held-out text as ids without the marks of documents."""

    def __init__(self, dataset: TokenDataset) -> None:
        stream = dataset.tokens("validation")
        self.stream, self.text = stream, dataset.tokenizer.byte_lengths > 0

    def take(self, count: int, rng: np.random.Generator) -> list[int]:
        """``count`` ids in a row from somewhere; a ValueError where there are not so many."""
        size = len(self.stream)
        start = int(rng.integers(max(1, size - 2 * count)))
        ids = self.stream[start : start + 2 * count + 64].astype(np.int64)
        found = ids[self.text[ids]][:count]
        if len(found) < count:
            raise ValueError(
                f"a needle test over {count:,} tokens needs more held-out text than {size:,} tokens; test at a shorter "
                f"length, or prepare with a larger validation_fraction"
            )
        return [int(i) for i in found]


def hide(
    tokenizer: Tokenizer, hay: Hay, name: str, answer: list[int], length: int, depth: float, rng: np.random.Generator
) -> list[int]:
    """A row of ``length`` + 1 ids: text with the fact at ``depth`` (0 first, 1 last), the question and its answer."""
    asked = tokenizer.encode(question(name))
    fact = [*asked, *answer, *tokenizer.encode(".")]
    room = length - len(fact) - len(asked) - len(answer)
    if room < 1:
        raise ValueError(f"a needle test needs a context of more than {length - room} tokens, not {length}")
    text = hay.take(room, rng)
    place = round(depth * room)
    return [tokenizer.bos, *text[:place], *fact, *text[place:], *asked, *answer]


def distinct_words(tokenizer: Tokenizer) -> list[list[int]]:
    """The ids of every word that the answer can be: those that differ from all others in their first token."""
    head = tokenizer.encode(question(NAMES[0]))
    found: dict[int, list[int]] = {}
    for word in WORDS:
        ids = tokenizer.encode(f"{question(NAMES[0])} {word}")
        if ids[: len(head)] == head:
            found.setdefault(ids[len(head)], ids[len(head) :])
    if len(found) < FEWEST:
        raise ValueError(
            f"this tokenizer tells only {len(found)} of the needle test's words apart by their first token; the test "
            f"needs {FEWEST}: use a larger vocabulary"
        )
    return list(found.values())


def solved(scores: Sequence[Score]) -> float:
    """The share of all tests whose answer was chosen."""
    return sum(score.chosen for score in scores) / sum(score.trials for score in scores)
