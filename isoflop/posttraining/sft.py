"""Supervised fine-tuning: a model learns to say what assistants say in conversations.

The loss is the mean of −log p over all trained tokens of a batch: what assistants say and the token that ends it, no
prompt and no header (Llama 3, arXiv 2407.21783, section 4.1.3). A long answer therefore counts more than a short one,
as in common trainers; but whatever a batch was cut into, every token of it counts the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from isoflop.posttraining.chat import TRAINED, Chat
from isoflop.posttraining.conversation import Conversation
from isoflop.posttraining.formats import FIELDS, Tally, read_conversations
from isoflop.posttraining.formats.columns import parse
from isoflop.posttraining.replay import replayed
from isoflop.posttraining.rows import Example, Fitted, Rows, fingerprint, held_out, lay, row_length
from isoflop.posttraining.settings import SFTConfig
from isoflop.posttraining.stage import perform
from isoflop.posttraining.task import Sums, open_model
from isoflop.progress import Report, silent
from isoflop.tokens.packing import PADDING, Ints
from isoflop.training.loss import Terms, capped, chunk_rows, losses
from isoflop.training.ranks import Ranks


def sft(config: SFTConfig, path: Path, report: Report = silent) -> dict[str, Any]:
    """Fine-tune in the directory ``path``, or go on; returns the summary (:func:`posttraining.stage.perform`)."""
    return perform(config, path, partial(FineTuning, config, path), report)


class FineTuning:
    """The task of fine-tuning (:class:`posttraining.task.Task`)."""

    told: tuple[str, ...] = ("nats",)
    measured: tuple[str, ...] = ("nats", "right")

    def __init__(self, config: SFTConfig, path: Path) -> None:
        self.model, self.tokenizer = open_model(config, path)
        self.learner = self.model
        chat = Chat(self.tokenizer)
        files, self.tally = [Path(os.path.normpath(path / name)) for name in config.data], Tally()
        read = read_conversations(files, self.tally, columns=parse(config.columns, FIELDS))
        context = config.context or self.model.shape.context
        self.fitted = Fitted.of([example_of(chat, placed.value) for placed in read], context)
        talks = self.fitted.examples
        self.length = row_length(max(example.size for example in talks), context)
        apart = held_out([example.prompt_hash for example in talks], config.validation)
        if apart.all():
            raise ValueError(f"all {len(talks):,} examples are held out by validation = {config.validation}; lower it")
        self.replayed = self.replay(config, path, sum(example.targets for example in talks))
        self.examples = talks + self.replayed
        self.training = np.append(np.flatnonzero(~apart), len(talks) + np.arange(len(self.replayed)))
        self.held_out = np.flatnonzero(apart)
        self.sizes = np.array([example.size for example in self.examples])
        self.weights = np.array([example.targets for example in self.examples], np.float64)
        self.fingerprint = fingerprint(self.examples)

    def replay(self, config: SFTConfig, path: Path, targets: int) -> list[Example]:
        """The plain text beside conversations with so many targets, an equal part from each folder."""
        wanted = targets * config.replay_share / (1 - config.replay_share) / max(1, len(config.replay))
        folders = [Path(os.path.normpath(path / folder)) for folder in config.replay]
        parts = [replayed(folder, self.tokenizer, self.length, wanted, config.seed) for folder in folders]
        return [example for part in parts for example in part]

    def begin(self, ranks: Ranks, report: Report) -> None:
        """Nothing."""

    def refresh(self, examples: Ints, step: int, ranks: Ranks) -> None:
        """Nothing."""

    def micro_batch(self, rows: Sequence[Sequence[int]]) -> Rows:
        """The rows on the model's device."""
        laid = lay([[self.examples[number] for number in row] for row in rows], self.length)
        return laid.to(self.model.embedding.device)

    def objective(self, micro: Rows) -> tuple[Tensor, Sums]:
        """The summed cross-entropy of the targets in nats."""
        hidden = self.model.hidden(micro.tokens, micro.documents)
        terms, fast = Terms(cap=self.model.shape.logit_cap), self.model.compiled
        states = micro.at_places(hidden)
        objective, nats = losses(states, self.model.head, micro.aims, fast=fast, padded=True, terms=terms)
        if self.model.shape.experts is not None:  # a mean over all tokens that were read
            objective = objective + self.model.routing.penalty * (micro.targets >= 0).float().mean()
        return objective, {"nats": nats}

    def measure(self, micro: Rows) -> Sums:
        """The same, and how many targets are the likeliest token."""
        states = micro.at_places(self.model.hidden(micro.tokens, micro.documents).detach())
        nats, right = scored(states, self.model.head, micro.aims, self.model.shape.logit_cap)
        return {"nats": nats, "right": right}

    def figures(self, sums: Mapping[str, float], weight: float) -> dict[str, float]:
        """Nats per trained token, and the share of them that is the likeliest."""
        found = {"loss": sums["nats"] / weight}
        return found | ({"accuracy": sums["right"] / weight} if "right" in sums else {})

    def files(self) -> dict[str, bytes]:
        """The chat template, by which a model is known to answer in that format."""
        return Chat(self.tokenizer).files

    def summary(self) -> dict[str, Any]:
        """What was read, conversations that were cut or dropped, and pieces of plain text."""
        return {
            "data": str(self.tally),
            "cut": self.fitted.cut,
            "dropped": self.fitted.dropped,
            "replayed": len(self.replayed),
        }


def example_of(chat: Chat, conversation: Conversation) -> Example:
    """A conversation as ids, trained on what assistants say and where they end."""
    encoded = chat.encode(conversation.messages)
    return Example.of(encoded.ids, [kind in TRAINED for kind in encoded.kinds])


@torch.no_grad()
def scored(hidden: Tensor, head: Tensor, targets: Tensor, cap: float) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy, and how many targets are the likeliest token, of states (n, width) and ids (n,).

    A target below 0 is none.
    """
    nats, right = torch.zeros((), device=hidden.device), torch.zeros((), device=hidden.device)
    weights, rows = head.to(hidden.dtype), chunk_rows(len(targets), head.shape[0])
    for states, aims in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True):
        logits = capped((states @ weights.T).float(), cap)
        nats += F.cross_entropy(logits, aims, reduction="sum", ignore_index=PADDING)
        right += (logits.argmax(-1) == aims).sum()
    return nats, right
