"""Reward modelling: a model learns which of several responses to a prompt people prefer.

The loss of a ranking is the mean over its pairs of −log σ(r_better − r_worse), without a margin (Llama 3, arXiv
2407.21783, section 4.1.2: three responses, edited > chosen > rejected, in one row in shuffled order), and that of a
batch the mean over its rankings, so that one of three counts no more than a pair. Off by default: ``centring``, a
weight of (r_better + r_worse)², which keeps rewards near zero (Eisenstein et al. 2023, arXiv 2312.09244).

Measured on rankings that are kept back, no prompt of which is trained on: accuracy over their pairs with Wilson's
interval, also where the better response is the shorter one, since a model that only prefers length is never right
there. Left out: margins, ties, more than one reward.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import xxhash
from numpy.typing import NDArray
from torch import Tensor, nn

from isoflop.keys import derive_key
from isoflop.posttraining.branches import Branches, Tree, lay_out, room_for
from isoflop.posttraining.conversation import Ranking
from isoflop.posttraining.formats import FIELDS
from isoflop.posttraining.formats.columns import parse
from isoflop.posttraining.formats.read import read_rankings
from isoflop.posttraining.formats.tally import Tally
from isoflop.posttraining.rows import held_out
from isoflop.posttraining.scoring import RewardModel
from isoflop.posttraining.settings import RewardConfig
from isoflop.posttraining.stage import perform
from isoflop.posttraining.task import Sums, open_model
from isoflop.progress import Report, silent
from isoflop.shares import wilson
from isoflop.tokens.packing import Ints
from isoflop.training.ranks import Ranks


def train_reward(config: RewardConfig, path: Path, report: Report = silent) -> dict[str, Any]:
    """Train in the directory ``path``, or go on; returns the summary (:func:`posttraining.stage.perform`)."""
    return perform(config, path, partial(RewardTraining.read, config, path), report)


class Shuffled(NamedTuple):
    """A ranking as ids, its responses in some order; ``best`` are their places in it, best first."""

    tree: Tree
    best: tuple[int, ...]


class Micro(NamedTuple):
    """Rankings laid out, and the order of each one's responses."""

    branches: Branches
    best: tuple[tuple[int, ...], ...]


class RewardTraining:
    """The task of reward modelling (:class:`posttraining.task.Task`)."""

    told: tuple[str, ...] = ("nats", "accuracy", "margin")
    measured: tuple[str, ...] = (*told, "pairs", "right", "shorter", "shorter_right", "longer", "longer_right")

    learner: nn.Module
    sizes: Ints
    weights: NDArray[np.float64]
    training: Ints
    held_out: Ints

    def __init__(
        self, config: RewardConfig, learner: RewardModel, rankings: Sequence[Ranking], tally: Tally | None = None
    ) -> None:
        self.learner = self.reward = learner
        self.model, self.tokenizer = learner.llama, learner.chat.tokenizer
        self.centring, self.tally = config.centring, tally or Tally()
        context = config.context or self.model.shape.context
        encoded = [learner.tree(ranking.prompt, ranking.responses) for ranking in rankings]
        kept = [tree for tree in encoded if tree.reach <= context]
        self.dropped = len(encoded) - len(kept)
        if not kept:
            raise ValueError(f"none of the {len(encoded):,} rankings fits into {context:,} tokens with its prompt")
        self.examples = [shuffled(tree, derive_key(config.seed, "responses", n)) for n, tree in enumerate(kept)]
        self.sizes = np.array([example.tree.size for example in self.examples])
        self.weights = np.ones(len(self.examples))
        self.length = room_for(self.sizes.tolist())
        self.fingerprint = xxhash.xxh3_128_hexdigest(repr(self.examples).encode())
        apart = held_out([xxhash.xxh3_64_intdigest(repr(tree.prompt).encode()) for tree in kept], config.validation)
        self.training, self.held_out = np.flatnonzero(~apart), np.flatnonzero(apart)
        if not len(self.training):
            raise ValueError(f"all {len(apart):,} rankings are held out by validation = {config.validation}; lower it")

    @classmethod
    def read(cls, config: RewardConfig, path: Path) -> RewardTraining:
        """The task of the stage in directory ``path``."""
        model, tokenizer = open_model(config, path)
        files = [Path(os.path.normpath(path / name)) for name in config.data]
        tally = Tally()
        rankings = [found.value for found in read_rankings(files, tally, columns=parse(config.columns, FIELDS))]
        return cls(config, RewardModel(model, tokenizer).initialise(config.seed), rankings, tally)

    def begin(self, ranks: Ranks, report: Report) -> None:
        """Nothing."""

    def refresh(self, examples: Ints, step: int, ranks: Ranks) -> None:
        """Nothing."""

    def micro_batch(self, rows: Sequence[Sequence[int]]) -> Micro:
        """The rows on the model's device."""
        chosen = [[self.examples[number] for number in row] for row in rows]
        branches = lay_out([[example.tree for example in row] for row in chosen], self.length)
        return Micro(branches.to(self.reward.score.device), tuple(example.best for row in chosen for example in row))

    def objective(self, micro: Micro) -> tuple[Tensor, Sums]:
        """The summed losses of the rankings, in nats and with what centring asks."""
        pairs = Pairs.of(self.reward.rewards(micro.branches), micro)
        nats = pairs.mean(-F.logsigmoid(pairs.margin))
        told = {"nats": nats, "accuracy": pairs.mean((pairs.margin > 0).float()), "margin": pairs.mean(pairs.margin)}
        return nats + self.centring * pairs.mean(pairs.total.square()), {k: v.detach() for k, v in told.items()}

    def measure(self, micro: Micro) -> Sums:
        """The same, and pairs that are ordered right: all, and by whether the better response is the shorter one."""
        pairs = Pairs.of(self.reward.rewards(micro.branches).detach(), micro)
        right, margin = (pairs.margin > 0).float(), pairs.margin
        shorter, longer = (pairs.longer < 0).float(), (pairs.longer > 0).float()
        return {
            "nats": pairs.mean(-F.logsigmoid(margin)),
            "accuracy": pairs.mean(right),
            "margin": pairs.mean(margin),
            "pairs": torch.ones_like(margin).sum(),
            "right": right.sum(),
            "shorter": shorter.sum(),
            "shorter_right": (shorter * right).sum(),
            "longer": longer.sum(),
            "longer_right": (longer * right).sum(),
        }

    def figures(self, sums: Mapping[str, float], weight: float) -> dict[str, float]:
        """Means over rankings; of a measurement the share of pairs that is right, with its interval and by length."""
        found = {
            "loss": sums["nats"] / weight,
            "margin": sums["margin"] / weight,
            "accuracy": sums["accuracy"] / weight,
        }
        if "pairs" in sums:
            found |= share("accuracy", sums["right"], sums["pairs"])
            found |= share("accuracy_shorter", sums["shorter_right"], sums["shorter"])
            found |= share("accuracy_longer", sums["longer_right"], sums["longer"])
        return found

    def files(self) -> dict[str, bytes]:
        """The vector."""
        return self.reward.files()

    def summary(self) -> dict[str, Any]:
        """What was read, and rankings that were too long."""
        return {"data": str(self.tally), "dropped": self.dropped}


class Pairs(NamedTuple):
    """All pairs of better and worse responses of some rankings, each (pairs,).

    ``margin`` is r_better − r_worse, ``total`` their sum, ``longer`` by how many tokens the better one is longer,
    ``weight`` one over the pairs of its ranking.
    """

    margin: Tensor
    total: Tensor
    longer: Tensor
    weight: Tensor

    @classmethod
    def of(cls, rewards: Tensor, micro: Micro) -> Pairs:
        """Those of rankings whose responses' ``rewards`` stand one after another."""
        better, worse, weights = [], [], []
        first = 0
        for best in micro.best:
            found = [(first + one, first + other) for one, other in combinations(best, 2)]
            better += [one for one, _ in found]
            worse += [other for _, other in found]
            weights += [1 / len(found)] * len(found)
            first += len(best)
        lengths = torch.tensor([place.end - place.start for places in micro.branches.places for place in places])
        high, low, device = rewards[better], rewards[worse], rewards.device
        return cls(
            high - low, high + low, (lengths[better] - lengths[worse]).to(device), torch.tensor(weights, device=device)
        )

    def mean(self, values: Tensor) -> Tensor:
        """The sum over rankings of the mean of ``values`` over their pairs."""
        return (self.weight * values).sum()


def shuffled(tree: Tree, key: int) -> Shuffled:
    """A ranking's responses, best first in ``tree``, in the order of their keyed hashes."""
    order = sorted(range(len(tree.responses)), key=lambda place: derive_key(key, place))
    best = tuple(order.index(place) for place in range(len(order)))
    return Shuffled(Tree(tree.prompt, [tree.responses[place] for place in order]), best)


def share(name: str, hits: float, trials: float) -> dict[str, float]:
    """A share under a name, with the ends of its 95% interval and how many it is of; nothing of none."""
    if not trials:
        return {}
    low, high = wilson(round(hits), round(trials))
    return {name: hits / trials, f"{name}_low": low, f"{name}_high": high, f"{name}_pairs": trials}
