"""Tokens are drawn from the distribution that the settings describe, by arithmetic."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from isoflop.inference import sampling
from isoflop.inference.sampling import Sampling, chance, choose, penalise

SETTINGS = [
    Sampling(),
    Sampling(0.7),
    Sampling(1.3, top_k=4),
    Sampling(top_p=0.6),
    Sampling(min_p=0.2),
    Sampling(0.9, top_k=9, top_p=0.9, min_p=0.05),
    Sampling(top_p=0.999),
]
DRAWS = 4000


def expected(logits: torch.Tensor, s: Sampling) -> torch.Tensor:
    """The distribution that transformers' processors leave of logits (vocab,)."""
    steps = LogitsProcessorList([TemperatureLogitsWarper(s.temperature)])
    if s.top_k:
        steps.append(TopKLogitsWarper(s.top_k))
    if s.top_p < 1:
        steps.append(TopPLogitsWarper(s.top_p))
    if s.min_p:
        steps.append(MinPLogitsWarper(s.min_p))
    return steps(torch.zeros(1, 1, dtype=torch.long), logits[None].clone())[0].softmax(-1)


@pytest.mark.parametrize("candidates", [8, 256])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_shares_of_draws_are_the_distribution_of_transformers(
    settings: Sampling, candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "CANDIDATES", candidates)  # 8 of 40 often do not hold the mass asked for
    logits = 2 * torch.randn(40, generator=torch.Generator().manual_seed(2))
    wanted = expected(logits, settings)
    drawn = choose(logits.expand(DRAWS, -1), [settings] * DRAWS, [chance(7, 0, i) for i in range(DRAWS)])
    shares = torch.bincount(drawn, minlength=40) / DRAWS
    assert not shares[wanted == 0].any()
    assert float((shares - wanted).abs().max()) < 4 * (0.25 / DRAWS) ** 0.5


def test_rows_of_one_batch_keep_their_own_settings() -> None:
    logits = torch.randn(len(SETTINGS) + 1, 40, generator=torch.Generator().manual_seed(3))
    settings, chances = [Sampling(temperature=0), *SETTINGS], [chance(1, 2, i) for i in range(len(SETTINGS) + 1)]
    together = choose(logits, settings, chances)
    alone = [int(choose(logits[i : i + 1], [s], [chances[i]])) for i, s in enumerate(settings)]
    assert together.tolist() == alone
    assert alone[0] == int(logits[0].argmax())


def test_repetition_control_is_transformers() -> None:
    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(4))
    read = torch.tensor([[3, 5, 5, 11]])
    seen = torch.zeros(1, 40, dtype=torch.bool)
    seen[0, read[0]] = True
    theirs = RepetitionPenaltyLogitsProcessor(1.7)(read, logits.clone())
    torch.testing.assert_close(penalise(logits, seen, [Sampling(repetition=1.7)]), theirs)


def test_chances_are_even_and_tell_seeds_samples_and_places_apart() -> None:
    chances = torch.tensor(
        [chance(*which) for which in [(i, j, k) for i in range(20) for j in range(10) for k in range(10)]]
    )
    assert len(chances.unique()) == len(chances)
    assert float(chances.mean()) == pytest.approx(0.5, abs=0.03)
    assert 0 <= float(chances.min()) < 0.01
    assert 0.99 < float(chances.max()) < 1
