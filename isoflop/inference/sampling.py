"""How the next token is chosen from logits: greedy, temperature, top-k, top-p, min-p, repetition control.

A row's choice depends on its own logits, its own settings and one number between 0 and 1 that is arithmetic of its seed
and its place (:func:`chance`), so it is the same whatever its neighbours are. Filters are taken in the order top-k,
top-p, min-p, as transformers does; with none a token is found in the cumulative distribution, without sorting. Sorting
takes the ``CANDIDATES`` likeliest tokens first, and the whole vocabulary only where those do not hold the mass asked
for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from isoflop.keys import derive_key

CANDIDATES = 256


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: divides the logits; 0 is greedy.
        top_k: only among so many likeliest tokens; 0 for all.
        top_p: only among the likeliest tokens that together have this probability (Holtzman et al. 2019,
            arXiv 1904.09751).
        min_p: only among tokens at least so likely as a share of the likeliest (Nguyen et al. 2024, arXiv 2407.01082).
        repetition: divides the positive logits of tokens already in the text, and multiplies the negative ones (Keskar
            et al. 2019, arXiv 1909.05858); 1 for none.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings that choose nothing."""
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"the temperature must be 0 or more, not {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0, for all, or more, not {self.top_k}")
        if not 0 < self.top_p <= 1 or not 0 <= self.min_p <= 1:
            raise ValueError(f"top_p must be above 0 and min_p at least 0, both at most 1: {self.top_p}, {self.min_p}")
        if self.repetition <= 0:
            raise ValueError(f"the repetition penalty must be above 0 (1 is none), not {self.repetition}")

    @property
    def filters(self) -> bool:
        """Whether any token may be ruled out."""
        return self.temperature > 0 and (self.top_k > 0 or self.top_p < 1 or self.min_p > 0)


def chance(seed: int, sample: int, place: int) -> float:
    """A number in [0, 1) for the ``place``-th token of a request's sample, by arithmetic."""
    return (derive_key(seed, "sample", sample, place) >> 11) * 2.0**-53


def choose(logits: Tensor, settings: Sequence[Sampling], chances: Sequence[float]) -> Tensor:
    """The chosen ids (rows,) from logits (rows, vocab), fp32, after repetition control."""
    greedy = any(s.temperature == 0 for s in settings)
    chosen = logits.argmax(-1) if greedy else torch.empty(len(logits), dtype=torch.long, device=logits.device)
    plain = [row for row, s in enumerate(settings) if s.temperature > 0 and not s.filters]
    if plain:
        chosen[plain] = draw(scaled(logits, settings, plain).softmax(-1), [chances[row] for row in plain])
    filtered = [row for row, s in enumerate(settings) if s.filters]
    if filtered:
        own = [settings[row] for row in filtered]
        chosen[filtered] = draw_filtered(
            scaled(logits, settings, filtered), own, [chances[row] for row in filtered], CANDIDATES
        )
    return chosen


def scaled(logits: Tensor, settings: Sequence[Sampling], rows: list[int]) -> Tensor:
    """The logits of these rows over their temperatures."""
    temperatures = [settings[row].temperature for row in rows]
    own = logits if len(rows) == len(logits) else logits[rows]
    return own if set(temperatures) == {1.0} else own / torch.tensor(temperatures, device=logits.device)[:, None]


def draw(probabilities: Tensor, chances: Sequence[float]) -> Tensor:
    """Where each row's chance lies in its cumulative distribution: (rows,)."""
    cumulative = probabilities.double().cumsum(-1)
    points = torch.tensor(chances, dtype=torch.float64, device=probabilities.device)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, points, right=True).squeeze(-1).clamp(max=probabilities.shape[-1] - 1)


def draw_filtered(logits: Tensor, settings: Sequence[Sampling], chances: Sequence[float], candidates: int) -> Tensor:
    """As :func:`draw`, among the tokens that each row's filters leave."""
    vocab = logits.shape[-1]
    wanted = min(vocab, max(candidates, *(s.top_k for s in settings)))
    top, ids = logits.topk(wanted)
    device = logits.device
    top_k = torch.tensor([s.top_k or vocab for s in settings], device=device)[:, None]
    top_p = torch.tensor([s.top_p for s in settings], device=device)[:, None]
    min_p = torch.tensor([s.min_p for s in settings], device=device)[:, None]
    rank = torch.arange(wanted, device=device)
    inside = rank < top_k
    total = torch.where(top_k < vocab, (top.where(inside, -torch.inf)).logsumexp(-1, True), logits.logsumexp(-1, True))
    probabilities = (top - total).exp().where(inside, 0.0)
    before = probabilities.double().cumsum(-1) - probabilities
    kept = inside & (before < top_p)
    kept &= probabilities >= min_p * probabilities[:, :1]
    kept[:, 0] = True
    if wanted < vocab and bool(kept[:, -1].any()):  # the last candidate still counts: others may
        return draw_filtered(logits, settings, chances, vocab)
    picked = draw(probabilities.where(kept, 0.0), chances)
    return ids.gather(1, picked[:, None]).squeeze(1)


def penalise(logits: Tensor, seen: Tensor, settings: Sequence[Sampling]) -> Tensor:
    """Logits (rows, vocab) with those of tokens ``seen`` (rows, vocab) made less likely, where a row asks for it."""
    strength = torch.tensor([s.repetition for s in settings], device=logits.device)[:, None]
    return torch.where(seen, torch.where(logits > 0, logits / strength, logits * strength), logits)
