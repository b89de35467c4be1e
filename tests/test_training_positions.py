"""Loss by position is the plain loss, cut up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isoflop.model.llama import Llama
from isoflop.planning.shape import Shape
from isoflop.training.positions import loss_by_position
from isoflop.training.ranks import Ranks
from isoflop.training.validation import Validation


def test_buckets_weighted_by_their_lengths_are_the_validation_loss() -> None:
    torch.set_num_threads(1)
    model = Llama(Shape(2, 16, 2, 1, 32, 300, context=64)).initialise(0)
    tokens = torch.randint(300, (9, 65), generator=torch.Generator().manual_seed(0))
    edges = (0, 8, 16, 64)
    found = loss_by_position(model, tokens, edges)
    whole = Validation(tokens, 1, 128).measure(model, Ranks())["validation_loss"]
    assert float(np.dot(found, np.diff(edges)) / 64) == pytest.approx(whole, rel=1e-6)
    with torch.no_grad():
        logits = model(tokens[:, :-1])
    first = torch.nn.functional.cross_entropy(logits[:, :8].flatten(0, 1), tokens[:, 1:9].flatten())
    assert found[0] == pytest.approx(float(first), rel=1e-5)


@pytest.mark.parametrize("edges", [(0, 65), (8, 8), (-1, 4)])
def test_positions_that_there_are_not_are_refused(edges: tuple[int, ...]) -> None:
    model = Llama(Shape(1, 16, 2, 1, 16, 300, context=64)).initialise(0)
    with pytest.raises(ValueError, match="edges must ascend within a context of 64"):
        loss_by_position(model, torch.zeros(1, 65, dtype=torch.int64), edges)
