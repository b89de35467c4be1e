"""Direct preference optimisation: a model learns to tell better responses from worse ones by what it says of them.

Llama 3's (arXiv 2407.21783, section 4.1.4): the tokens that format an answer, its header and its end, are in neither
side of the comparison, because what both responses share is pushed up and down at once, and the end is what a model
then forgets to say; and the better response's likelihood is kept up by a term of its own, in which its end is. So there
are two masks. Other losses are terms (``posttraining.preference``). A ranking's prompt and responses lie in one row
(``posttraining.branches``); a ranking counts once, as the mean over its pairs, and a batch is the mean over rankings.

What the reference says is asked beforehand (``posttraining.reference``). Every step tells what it does to the better
response, which DPO alone lets fall: on 1,094 real preferences (two epochs, a model of 0.5M parameters) a token of it
became 0.17 nats likelier on held-out ones, by the plain loss 0.16 less likely, at much the same accuracy (.89, .91).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor, nn

from isoflop.posttraining.branches import Tree, room_for
from isoflop.posttraining.chat import Chat
from isoflop.posttraining.conversation import Ranking
from isoflop.posttraining.formats import FIELDS
from isoflop.posttraining.formats.columns import parse
from isoflop.posttraining.formats.read import read_rankings
from isoflop.posttraining.formats.tally import Tally
from isoflop.posttraining.preference import fallen, preference_loss
from isoflop.posttraining.reference import reference
from isoflop.posttraining.responses import Responses
from isoflop.posttraining.reward import share
from isoflop.posttraining.rows import held_out, packed, pieces
from isoflop.posttraining.settings import DPOConfig
from isoflop.posttraining.stage import perform
from isoflop.posttraining.task import Sums, open_model
from isoflop.progress import Report, silent
from isoflop.tokens.packing import Ints, ranges
from isoflop.training.ranks import Ranks
from isoflop.training.run import Run

MEANS = ("loss", "preference", "nll", "margin", "accuracy", "chosen_reward", "rejected_reward")
"""Figures that are means over rankings."""


def dpo(config: DPOConfig, path: Path, report: Report = silent) -> dict[str, Any]:
    """Train in the directory ``path``, or go on; returns the summary (:func:`posttraining.stage.perform`)."""
    return perform(config, path, partial(Preferring, config, path), report)


class Micro(NamedTuple):
    """Rankings laid out, and what the reference says of every token of their responses (tokens,)."""

    responses: Responses
    reference: Tensor


class Preferring:
    """The task of preference optimisation (:class:`posttraining.task.Task`)."""

    told: tuple[str, ...] = (
        *MEANS,
        *("chosen", "rejected", "chosen_tokens", "rejected_tokens"),
        *("chosen_shift", "rejected_shift", "kl", "tokens"),
    )
    measured: tuple[str, ...] = (*told, "right", "pairs")
    learner: nn.Module
    sizes: Ints
    weights: NDArray[np.float64]
    training: Ints
    held_out: Ints

    def __init__(self, config: DPOConfig, path: Path) -> None:
        self.config, self.path = config, path
        self.model, self.tokenizer = open_model(config, path)
        self.learner = self.model
        files = [Path(os.path.normpath(path / name)) for name in config.data]
        context = config.context or self.model.shape.context
        self.tally, chat = Tally(), Chat(self.tokenizer)
        read = read_rankings(files, self.tally, columns=parse(config.columns, FIELDS))
        encoded = [tree_of(chat, found.value, config.pairs) for found in read]
        self.trees = [tree for tree in encoded if tree.reach <= context]
        self.dropped = len(encoded) - len(self.trees)
        if not self.trees:
            raise ValueError(f"none of the {len(encoded):,} rankings fits into {context:,} tokens with its prompt")
        self.sizes = np.array([tree.size for tree in self.trees])
        self.weights = np.ones(len(self.trees))
        self.length = room_for(self.sizes.tolist())
        self.fingerprint = xxhash.xxh3_128_hexdigest(repr(self.trees).encode())
        prompts = [xxhash.xxh3_64_intdigest(repr(tree.prompt).encode()) for tree in self.trees]
        apart = held_out(prompts, config.validation)
        self.training, self.held_out = np.flatnonzero(~apart), np.flatnonzero(apart)
        if not len(self.training):
            raise ValueError(f"all {len(apart):,} rankings are held out by validation = {config.validation}; lower it")
        self.counts = np.array([sum(map(len, tree.responses)) for tree in self.trees])
        self.starts = np.cumsum(self.counts) - self.counts
        self.reference = torch.zeros(int(self.counts.sum()), device=self.model.embedding.device)
        self.shifts: list[float] = []

    def begin(self, ranks: Ranks, report: Report) -> None:
        """Ask the reference, which the model still is."""
        found = reference(self.path, self.model, self.fingerprint, partial(self.ask, report), ranks)
        self.reference = found.to(self.reference.device)

    @torch.no_grad()
    def ask(self, report: Report, ranks: Ranks) -> Tensor:
        """What the model says of every token of all responses, in the order of examples: this rank's share of it."""
        found, rows = torch.zeros_like(self.reference), packed(self.sizes, self.length)[ranks.rank :: ranks.count]
        done = 0
        for piece in pieces(rows, self.config.micro_tokens // self.length):
            found[self.places(piece)] = self.micro_batch(piece).responses.likelihoods(self.model)
            done += len(piece)
            report("reference", done, len(rows))
        return found

    def places(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Where the tokens of these examples are among those of all."""
        numbers = np.concatenate([np.array(row) for row in rows])
        return torch.from_numpy(ranges(self.starts[numbers], self.counts[numbers])).to(self.reference.device)

    def refresh(self, examples: Ints, step: int, ranks: Ranks) -> None:
        """Nothing."""

    def micro_batch(self, rows: Sequence[Sequence[int]]) -> Micro:
        """The rows on the model's device."""
        chosen = [[self.trees[number] for number in row] for row in rows]
        laid = Responses.of(chosen, self.length, self.config.loss.end_in_dpo)
        return Micro(laid.to(self.model.embedding.device), self.reference[self.places(rows)])

    def objective(self, micro: Micro) -> tuple[Tensor, Sums]:
        """The summed losses of the rankings; figures are sums over them too."""
        own, terms = micro.responses, self.config.loss
        logs = own.likelihoods(self.model)
        moved = logs - micro.reference
        compared, lengths = own.total(own.compared), own.total(torch.ones_like(logs))
        policy = own.total((moved if terms.reference else logs) * own.compared)
        if terms.per_token:
            policy = policy / compared.clamp(min=1)
        better, worse = own.pairs
        h = policy[better] - policy[worse]
        preference = (own.weights * preference_loss(terms, h)).sum()
        nll = -(own.total(logs) / lengths)[own.best].sum()
        objective = preference + terms.nll * nll
        said, shift = own.total(logs * own.compared), own.total(moved * own.compared)
        told = {
            "loss": objective,
            "preference": preference,
            "nll": nll,
            "margin": terms.beta * (own.weights * h).sum(),
            "accuracy": (own.weights * (h > 0)).sum(),
            "chosen_reward": terms.beta * policy[own.best].sum(),
            "rejected_reward": terms.beta * policy[own.worst].sum(),
            "chosen": said[own.best].sum(),
            "rejected": said[own.worst].sum(),
            "chosen_tokens": compared[own.best].sum(),
            "rejected_tokens": compared[own.worst].sum(),
            "chosen_shift": shift[own.best].sum(),
            "rejected_shift": shift[own.worst].sum(),
            "kl": (moved.square() / 2).sum(),
            "tokens": lengths.sum(),
            "right": (h > 0).float().sum(),
            "pairs": torch.ones_like(h).sum(),
        }
        return objective, {name: value.detach() for name, value in told.items()}

    def measure(self, micro: Micro) -> Sums:
        """The same."""
        return self.objective(micro)[1]

    def figures(self, sums: Mapping[str, float], weight: float) -> dict[str, float]:
        """Means over rankings, and what became of the responses' likelihoods.

        ``chosen_log_p`` is nats a response, ``…_token`` nats a token, ``…_shift`` that against the reference;
        ``kl`` is Schulman's second estimate, d²/2 with d = ln π/ref, per token of the responses: of the divergence
        from the reference where they were drawn from the model, else only of how far it moved on them.
        """
        found = {name: sums[name] / weight for name in MEANS}
        for name in ("chosen", "rejected"):
            found[f"{name}_log_p"] = sums[name] / weight
            found[f"{name}_log_p_token"] = sums[name] / max(1.0, sums[f"{name}_tokens"])
            found[f"{name}_shift"] = sums[f"{name}_shift"] / max(1.0, sums[f"{name}_tokens"])
        found["kl"] = sums["kl"] / sums["tokens"]
        if "pairs" in sums:
            return found | share("accuracy", sums["right"], sums["pairs"])
        self.watch(found["chosen_shift"])
        return found

    def watch(self, shift: float) -> None:
        """Say, when it happens, that the better responses have become less likely than they may."""
        self.shifts.append(shift)
        if self.fallen(self.shifts) == len(self.shifts) - 1:
            print(f"warning: {self.warning(len(self.shifts))}", file=sys.stderr)

    def fallen(self, shifts: Sequence[float]) -> int | None:
        """The place at which the better responses had become less likely than they may, if they had."""
        return fallen(shifts, self.config.window, self.config.fall)

    def warning(self, step: int) -> str:
        """What to say of that."""
        return (
            f"over the {self.config.window} steps up to number {step:,} the better responses were more than "
            f"{self.config.fall} nats a token less likely than to the model that the stage began with; lower the rate, "
            "or raise loss.nll or loss.beta"
        )

    def files(self) -> dict[str, bytes]:
        """The chat template, by which a model is known to answer in that format."""
        return Chat(self.tokenizer).files

    def summary(self) -> dict[str, Any]:
        """What was read, rankings that were too long, and a warning where better responses have become less likely."""
        lines = Run(self.path).metrics()
        place = self.fallen([line["chosen_shift"] for line in lines if "chosen_shift" in line])
        warned = {} if place is None else {"warning": self.warning(place + 1)}
        return {"data": str(self.tally), "dropped": self.dropped, **warned}


def tree_of(chat: Chat, ranking: Ranking, pairs: str) -> Tree:
    """A ranking as ids, best first: all responses, or the extremes."""
    responses = ranking.responses if pairs == "all" else (ranking.responses[0], ranking.responses[-1])
    return Tree(chat.prompt(ranking.prompt), [chat.answer(text).ids for text in responses])
