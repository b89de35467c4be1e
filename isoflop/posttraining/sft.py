"""Supervised fine-tuning: a model learns to say what assistants say in conversations.

The loss is the mean of −log p over all trained tokens of a batch: what assistants say and the token that ends it, no
prompt and no header (Llama 3, arXiv 2407.21783, section 4.1.3). A long answer therefore counts more than a short one,
as in common trainers; but whatever a batch was cut into, every token of it counts the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isoflop.posttraining.chat import Chat, Kind
from isoflop.posttraining.conversation import Conversation, Message
from isoflop.posttraining.rows import Example, Fitted, Rows, fingerprint, held_out, lay, row_length
from isoflop.posttraining.settings import SFTConfig
from isoflop.posttraining.stage import perform
from isoflop.posttraining.task import Sums, open_model
from isoflop.progress import Report, silent
from isoflop.tokens.packing import Ints
from isoflop.training.loss import Terms, capped, chunk_rows, losses

TRAINED = (Kind.ANSWER, Kind.END)


def sft(config: SFTConfig, path: Path, report: Report = silent) -> dict[str, Any]:
    """Fine-tune in the directory ``path``, or go on; returns the summary (:func:`posttraining.stage.perform`)."""
    return perform(config, path, partial(FineTuning, config, path), report)


class FineTuning:
    """The task of fine-tuning (:class:`posttraining.task.Task`)."""

    told: tuple[str, ...] = ("nats",)
    measured: tuple[str, ...] = ("nats", "right")
    learner: nn.Module
    sizes: Ints
    weights: NDArray[np.float64]
    training: Ints
    held_out: Ints

    def __init__(self, config: SFTConfig, path: Path) -> None:
        self.model, self.tokenizer = open_model(config, path)
        self.learner = self.model
        chat = Chat(self.tokenizer)
        files = [Path(os.path.normpath(path / name)) for name in config.data]
        whole = [example_of(chat, conversation) for conversation in read_messages(files)]
        context = config.context or self.model.shape.context
        self.fitted = Fitted.of(whole, context)
        self.examples = self.fitted.examples
        self.sizes = np.array([example.size for example in self.examples])
        self.weights = np.array([example.targets for example in self.examples], np.float64)
        self.length = row_length(int(self.sizes.max()), context)
        self.fingerprint = fingerprint(self.examples)
        apart = held_out([example.prompt_hash for example in self.examples], config.validation)
        self.training, self.held_out = np.flatnonzero(~apart), np.flatnonzero(apart)
        if not len(self.training):
            raise ValueError(f"all {len(apart):,} examples are held out by validation = {config.validation}; lower it")

    def micro_batch(self, rows: Sequence[Sequence[int]]) -> Rows:
        """The rows on the model's device."""
        laid = lay([[self.examples[number] for number in row] for row in rows], self.length)
        return laid.to(self.model.embedding.device)

    def objective(self, micro: Rows) -> tuple[Tensor, Sums]:
        """The summed cross-entropy of the targets in nats."""
        hidden = self.model.hidden(micro.tokens, micro.documents)
        terms, fast = Terms(cap=self.model.shape.logit_cap), self.model.compiled
        objective, nats = losses(hidden, self.model.head, micro.targets, fast=fast, padded=True, terms=terms)
        if self.model.shape.experts is not None:  # a mean over all tokens that were read
            objective = objective + self.model.routing.penalty * (micro.targets >= 0).float().mean()
        return objective, {"nats": nats}

    def measure(self, micro: Rows) -> Sums:
        """The same, and how many targets are the likeliest token."""
        hidden = self.model.hidden(micro.tokens, micro.documents).detach()
        trained = micro.targets >= 0
        nats, right = scored(hidden[trained], self.model.head, micro.targets[trained], self.model.shape.logit_cap)
        return {"nats": nats, "right": right}

    def figures(self, sums: Mapping[str, float], weight: float) -> dict[str, float]:
        """Nats per trained token, and the share of them that is the likeliest."""
        found = {"loss": sums["nats"] / weight}
        return found | ({"accuracy": sums["right"] / weight} if "right" in sums else {})

    def files(self) -> dict[str, bytes]:
        """The chat template, by which a model is known to answer in that format."""
        return Chat(self.tokenizer).files

    def summary(self) -> dict[str, Any]:
        """What was cut and dropped."""
        return {"cut": self.fitted.cut, "dropped": self.fitted.dropped}


def example_of(chat: Chat, conversation: Conversation) -> Example:
    """A conversation as ids, trained on what assistants say and where they end."""
    encoded = chat.encode(conversation.messages)
    return Example.of(encoded.ids, [kind in TRAINED for kind in encoded.kinds])


@torch.no_grad()
def scored(hidden: Tensor, head: Tensor, targets: Tensor, cap: float) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy, and how many targets are the likeliest token, of states (n, width) and ids (n,)."""
    nats, right = torch.zeros((), device=hidden.device), torch.zeros((), device=hidden.device)
    if not len(targets):
        return nats, right
    weights, rows = head.to(hidden.dtype), chunk_rows(len(targets), head.shape[0])
    for states, aims in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True):
        logits = capped((states @ weights.T).float(), cap)
        nats += torch.nn.functional.cross_entropy(logits, aims, reduction="sum")
        right += (logits.argmax(-1) == aims).sum()
    return nats, right


def read_messages(files: Sequence[Path]) -> Iterator[Conversation]:
    """The conversations of JSONL files with a list of messages a line."""
    for file in files:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    messages = json.loads(line)["messages"]
                    yield Conversation(tuple(Message(m["role"], m["content"]) for m in messages))
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(f"{file}:{number} is no conversation: {error}") from None
