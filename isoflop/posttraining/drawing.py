"""A model that is being trained answers prompts with the weights it has now.

What is drawn is a function of weights, step and seed, so nothing is kept of it and a stage that goes on draws the same.
The number of rows that are written at once is the config's, not what memory has room for, because sums of another
length are rounded otherwise. In fp32 the engine reads the weights that are trained, without a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from isoflop.inference.decoder import Decoder
from isoflop.inference.engine import Engine
from isoflop.inference.requests import Request
from isoflop.inference.sampling import Sampling
from isoflop.keys import derive_key
from isoflop.model.llama import Llama
from isoflop.posttraining.settings import TeachConfig
from isoflop.training.ranks import Ranks


@dataclass(frozen=True)
class Drawing:
    """The prompts, as ids, and what ends answers to them; a text has ``context`` tokens at most with its prompt."""

    config: TeachConfig
    model: Llama
    prompts: Sequence[tuple[int, ...]]
    stop_ids: tuple[int, ...]
    context: int

    def room(self, number: int) -> int:
        """Tokens that an answer to a prompt has at most."""
        return min(self.config.max_tokens, self.context - len(self.prompts[number]))

    def draw(self, numbers: Sequence[int], step: int, ranks: Ranks) -> Iterator[list[int]]:
        """The ids of an answer to each of the prompts with these numbers, of which every rank writes its share."""
        mine = range(ranks.rank, len(numbers), ranks.count)
        engine = Engine(Decoder(self.model), rows=self.config.rows, context=self.context)
        written = engine.generate([self.request(numbers[place], step) for place in mine])
        found = torch.zeros(len(numbers), self.config.max_tokens)  # ids from 1, exact in fp32, which ranks add up
        for place, (said,) in zip(mine, written, strict=True):
            found[place, : len(said.ids)] = torch.tensor(said.ids, dtype=torch.float32) + 1
        together = found.to(self.model.embedding.device)
        ranks.add(together)
        return ([int(token) - 1 for token in row if token] for row in together.tolist())

    def request(self, number: int, step: int) -> Request:
        """What the engine is asked for a prompt in a step."""
        sampling, seed = Sampling(self.config.draw_temperature), derive_key(self.config.seed, "answer", step, number)
        return Request(self.prompts[number], 1, self.config.max_tokens, sampling, self.stop_ids, seed=seed)
