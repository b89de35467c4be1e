"""Validation is the mean loss over a fixed sample, in nats per token and in bits per byte of the text it stands for."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from isoflop.model.llama import Llama
from isoflop.tokens.dataset import TokenDataset
from isoflop.training.config import TrainConfig
from isoflop.training.ranks import Ranks
from isoflop.training.validation import Validation

Make = Callable[..., TrainConfig]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class Half(Ranks):
    """One of two ranks whose sums are collected instead of sent."""

    def add(self, *tensors: torch.Tensor) -> None:
        """Keep what would be sent."""


def test_loss_is_the_mean_over_all_targets_and_bits_are_over_their_bytes(tiny_config: Make) -> None:
    config = tiny_config()
    dataset = TokenDataset.open(config.data)
    validation = Validation.build(dataset, config)
    model = Llama(config.shape).initialise(0)
    measured = validation.measure(model, Ranks())
    tokens = validation.tokens
    with torch.no_grad():
        logits = model(tokens[:, :-1]).double()
    nats = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum").item()
    text = sum(len(dataset.tokenizer.decode(row[1:].tolist()).encode()) for row in tokens)
    assert measured["validation_loss"] == pytest.approx(nats / tokens[:, 1:].numel(), rel=1e-6)
    assert measured["validation_bpb"] == pytest.approx(nats / math.log(2) / text, rel=0.02)


def test_shorter_context_predicts_the_same_targets_from_what_it_sees(tiny_config: Make) -> None:
    config = tiny_config()
    validation = Validation.build(TokenDataset.open(config.data), config)
    model = Llama(config.shape).initialise(0)
    inputs, targets = validation.tokens[:, :-1].reshape(-1, 8), validation.tokens[:, 1:]
    with torch.no_grad():
        nats = F.cross_entropy(model(inputs).double().flatten(0, 1), targets.flatten()).item()
    measured, whole = validation.measure(model, Ranks(), 8), validation.measure(model, Ranks())
    assert measured["validation_loss"] == pytest.approx(nats, rel=1e-6) != whole["validation_loss"]
    assert whole["validation_bpb"] / whole["validation_loss"] == pytest.approx(measured["validation_bpb"] / nats)


def test_sample_is_the_same_for_every_seed_and_of_the_asked_size(tiny_config: Make) -> None:
    one, two = (
        Validation.build(TokenDataset.open(c.data), c)
        for c in (tiny_config(seed=1), tiny_config(seed=2, micro_tokens=64))
    )
    assert torch.equal(one.tokens, two.tokens)
    assert one.tokens[:, 1:].numel() == tiny_config().validation_tokens


def test_ranks_measure_disjoint_halves(tiny_config: Make) -> None:
    config = tiny_config()
    validation = Validation.build(TokenDataset.open(config.data), config)
    model = Llama(config.shape).initialise(0)
    halves = [validation.measure(model, Half(rank, 2))["validation_loss"] for rank in range(2)]
    whole = validation.measure(model, Ranks())["validation_loss"]
    assert sum(halves) == pytest.approx(whole, rel=1e-6)
    assert min(halves) > 0.4 * whole
