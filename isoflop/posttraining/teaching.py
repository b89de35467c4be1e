"""On-policy distillation: a student learns from what a larger teacher says of every token of the student's own answers.

Generalised knowledge distillation (Agarwal et al. 2023, arXiv 2306.13649, algorithm 1): before every step the student
answers the step's prompts with the weights that it has then, the teacher gives its distribution at every token of these
answers, and the student descends a divergence (``posttraining.divergence``) there, the drawing itself not being
differentiated. So it is corrected where it goes, not where a teacher would have gone. Answers may be given as well:
a share of them is the paper's mixture λ, and −log p of their tokens may be added.

What is held out is answered with the same chances at every measurement. An answer that was cut off at the limit is
learnt from: its tokens are judged one by one, and no end is taught. Costs beside a step of fine-tuning: writing the
answers (``posttraining.drawing``), the teacher's forward pass over the rows, its weights in fp32, and a chunk of its
logits. Left out: mixtures of experts, which cannot write yet, a compiled teacher, and the gradient of the drawing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from isoflop.inference.load import load_model
from isoflop.model.llama import Llama
from isoflop.posttraining.chat import Chat
from isoflop.posttraining.divergence import Divergence, compared
from isoflop.posttraining.drawing import Drawing
from isoflop.posttraining.formats import FIELDS
from isoflop.posttraining.formats.columns import parse
from isoflop.posttraining.formats.read import read_conversations, read_prompts
from isoflop.posttraining.formats.tally import Tally
from isoflop.posttraining.reference import weights_fingerprint
from isoflop.posttraining.rows import Example, Fitted, Rows, fingerprint, held_out, lay, row_length
from isoflop.posttraining.settings import TeachConfig
from isoflop.posttraining.sft import example_of
from isoflop.posttraining.stage import perform
from isoflop.posttraining.task import Sums, open_model
from isoflop.progress import Report, silent
from isoflop.tokens.packing import PADDING, Ints
from isoflop.training.distillation import Whole
from isoflop.training.loss import Terms, losses
from isoflop.training.ranks import Ranks
from isoflop.training.run import Run


def teach(config: TeachConfig, path: Path, report: Report = silent) -> dict[str, Any]:
    """Distil in the directory ``path``, or go on; returns the summary (:func:`posttraining.stage.perform`)."""
    return perform(config, path, partial(Teaching, config, path), report)


class Micro(NamedTuple):
    """Rows; those of their aims that were given and not drawn; how many answers there are, and how many that end."""

    rows: Rows
    given: Tensor
    counts: Tensor


class Teaching:
    """The task of distillation (:class:`posttraining.task.Task`). The first examples are those that are drawn."""

    told: tuple[str, ...] = ("loss", "tokens", "answers", "ended")
    measured: tuple[str, ...] = (*told, "kl", "agreement")

    def __init__(self, config: TeachConfig, path: Path) -> None:
        self.config, self.path = config, path
        self.model, self.tokenizer = open_model(config, path)
        self.learner, self.chat = self.model, Chat(self.tokenizer)
        self.context = config.context or self.model.shape.context
        self.teacher = self.open_teacher(Path(os.path.normpath(path / config.teacher)))
        self.tallies: list[Tally] = []
        self.columns = parse(config.columns, FIELDS)
        self.dropped = self.cut = 0
        prompts = self.read_prompts(self.named(config.prompts))
        self.drawing = Drawing(config, self.model, prompts, self.chat.stop_ids, self.context)
        # before they are drawn, answers as long as they may become stand for them
        self.examples = [self.answered(n, [self.chat.end] * self.drawing.room(n)) for n in range(len(prompts))]
        self.examples += self.read_given(self.named(config.data))
        self.sizes = np.array([example.size for example in self.examples])
        self.weights = np.array([example.targets for example in self.examples], np.float64)
        self.length = row_length(int(self.sizes.max()), self.context)
        self.fingerprint = f"{fingerprint(self.examples)} {weights_fingerprint(self.teacher)}"
        apart = held_out([example.prompt_hash for example in self.examples], config.validation)
        self.training, self.held_out = np.flatnonzero(~apart), np.flatnonzero(apart)
        if not len(self.training):
            raise ValueError(f"all {len(apart):,} examples are held out by validation = {config.validation}; lower it")

    def named(self, names: Sequence[str]) -> list[Path]:
        """Files that the config names."""
        return [Path(os.path.normpath(self.path / name)) for name in names]

    def open_teacher(self, path: Path) -> Llama:
        """The teacher, on the student's device; a ValueError where it cannot teach this student."""
        model, tokenizer = load_model(path)
        ours, theirs = self.model.shape, model.shape
        if ours.experts is not None:
            raise ValueError(f"{self.config.model} is a mixture of experts, which cannot write its own answers yet")
        if tokenizer.checksum != self.tokenizer.checksum or theirs.vocab != ours.vocab:
            raise ValueError(
                f"the teacher {path} has another tokenizer than the student, so that its ids mean other texts; give "
                "one with the same, or train the student with the teacher's"
            )
        if theirs.context < self.context:
            raise ValueError(
                f"the teacher {path} sees {theirs.context:,} tokens and the student {self.context:,}; lower context "
                "to that, or give a teacher that sees as far"
            )
        model.compute = self.model.compute
        return model.requires_grad_(False).to(self.model.embedding.device)

    def read_prompts(self, files: Sequence[Path]) -> list[tuple[int, ...]]:
        """The ids of prompts that leave room for an answer; the others are counted."""
        if not files:
            return []
        self.tallies.append(tally := Tally())
        found = [tuple(self.chat.prompt(placed.value)) for placed in read_prompts(files, tally, columns=self.columns)]
        kept = [ids for ids in found if len(ids) < self.context]
        self.dropped += len(found) - len(kept)
        if not kept:
            raise ValueError(f"none of the {len(found):,} prompts leaves room for an answer in {self.context:,} tokens")
        return kept

    def read_given(self, files: Sequence[Path]) -> list[Example]:
        """Conversations with given answers, within the context."""
        if not files:
            return []
        self.tallies.append(tally := Tally())
        read = read_conversations(files, tally, columns=self.columns)
        fitted = Fitted.of([example_of(self.chat, placed.value) for placed in read], self.context)
        self.cut, self.dropped = self.cut + fitted.cut, self.dropped + fitted.dropped
        return fitted.examples

    def answered(self, number: int, answer: Sequence[int]) -> Example:
        """A prompt with an answer, all of whose tokens are targets."""
        prompt = self.drawing.prompts[number]
        return Example.of([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))

    def begin(self, ranks: Ranks, report: Report) -> None:
        """Nothing."""

    def refresh(self, examples: Ints, step: int, ranks: Ranks) -> None:
        """Let the student answer those of these examples that are drawn."""
        drawn = np.unique(examples[examples < len(self.drawing.prompts)]).tolist()
        if not drawn:
            return
        for number, answer in zip(drawn, self.drawing.draw(drawn, step, ranks), strict=True):
            example = self.answered(number, answer)
            self.examples[number] = example
            self.sizes[number], self.weights[number] = example.size, example.targets

    def micro_batch(self, rows: Sequence[Sequence[int]]) -> Micro:
        """The rows on the model's device."""
        chosen = [[self.examples[number] for number in row] for row in rows]
        laid = lay(chosen, self.length)
        drawn = torch.ones(len(rows), 1 + max(map(len, rows)), dtype=torch.bool)  # the last is the padding
        for at, row in enumerate(rows):
            drawn[at, : len(row)] = torch.tensor(row) < len(self.drawing.prompts)
        own = drawn.gather(1, laid.documents).flatten()[laid.places]
        ends = [int(example.ids[example.size]) in self.chat.stop_ids for row in chosen for example in row]
        counts = torch.tensor([len(ends), sum(ends)], dtype=torch.float32)
        device = self.model.embedding.device
        return Micro(laid.to(device), laid.aims.masked_fill(own, PADDING).to(device), counts.to(device))

    def objective(self, micro: Micro) -> tuple[Tensor, Sums]:
        """The summed divergence of the answers' tokens, τ² times as in other distillation, and what given ones add."""
        states, aims, config, cap = self.states(micro), micro.rows.aims, self.config, self.model.shape.logit_cap
        terms, fast = Terms(cap=cap, weight=1.0, temperature=config.temperature), self.model.compiled
        taught = Divergence(self.lessons(micro), config.beta)
        objective, _ = losses(states, self.model.head, aims, fast=fast, padded=True, terms=terms, taught=taught)
        if config.given:
            nats, _ = losses(states, self.model.head, micro.given, fast=fast, padded=True, terms=Terms(cap=cap))
            objective = objective + config.given * nats
        answers, ended = micro.counts
        return objective, {"loss": objective, "tokens": (aims >= 0).sum(), "answers": answers, "ended": ended}

    def measure(self, micro: Micro) -> Sums:
        """The same, KL(student‖teacher) at a temperature of 1, and tokens at which both have the same likeliest one."""
        _, told = self.objective(micro)
        states, shape = self.states(micro).detach(), self.model.shape
        kl, alike = compared(states, self.model.head, shape.logit_cap, self.lessons(micro), micro.rows.aims >= 0)
        return {**told, "kl": kl, "agreement": alike}

    def states(self, micro: Micro) -> Tensor:
        """The student's states (places, width) where there are targets, and at some more places."""
        return micro.rows.at_places(self.model.hidden(micro.rows.tokens, micro.rows.documents))

    @torch.no_grad()
    def lessons(self, micro: Micro) -> Whole:
        """The teacher's distributions at the same places."""
        teacher, rows = self.teacher, micro.rows
        states = rows.at_places(teacher.hidden(rows.tokens, rows.documents))
        return Whole(states, teacher.head.to(states.dtype), teacher.shape.logit_cap)

    def figures(self, sums: Mapping[str, float], weight: float) -> dict[str, float]:
        """Means over the answers' tokens; their number, mean length, and the share of answers that came to an end."""
        found = {"loss": sums["loss"] / weight}
        found |= {name: sums[name] / weight for name in ("kl", "agreement") if name in sums}
        length, ended = sums["tokens"] / sums["answers"], sums["ended"] / sums["answers"]
        return found | {"targets": sums["tokens"], "answer_tokens": length, "ended": ended}

    def files(self) -> dict[str, bytes]:
        """The chat template, by which a model is known to answer in that format."""
        return self.chat.files

    def summary(self) -> dict[str, Any]:
        """What was read, what was too long, and once there were steps the tokens that were taught in them."""
        taught = [int(line["targets"] or 0) for line in Run(self.path).metrics() if "targets" in line]
        told = {"data": "; ".join(map(str, self.tallies)), "cut": self.cut, "dropped": self.dropped}
        return told | ({"targets": sum(taught)} if taught else {})
