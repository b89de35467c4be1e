"""Rankings laid out so that every token of every response can be asked for its likelihood: which state leads up to it,
whose it is, whether it is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from isoflop.model.llama import Llama
from isoflop.posttraining.branches import Branches, Tree, lay_out
from isoflop.posttraining.likelihood import log_likelihoods


class Responses(NamedTuple):
    """Rankings, their responses best first, and the tokens of those one after another.

    Of tokens: ``sources`` (2, tokens) are row and column of the state that leads up to each, ``targets`` its id,
    ``owners`` the number of its response, ``compared`` 1 where preferences look at it, else 0. Of responses: ``pairs``
    (2, pairs) are the numbers of better and worse, ``weights`` (pairs,) one over the pairs of their ranking, ``best``
    and ``worst`` (rankings,) numbers.
    """

    branches: Branches
    sources: Tensor
    targets: Tensor
    owners: Tensor
    compared: Tensor
    pairs: Tensor
    weights: Tensor
    best: Tensor
    worst: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[Tree]], length: int, ends: bool) -> Responses:
        """The rankings of each row of ``length`` tokens; the last token of a response is compared if ``ends``."""
        branches = lay_out(rows, length)
        trees = [tree for row in rows for tree in row]
        texts = [ids for tree in trees for ids in tree.responses]
        found = [place for places in branches.places for place in places]
        counts = torch.tensor([len(tree.responses) for tree in trees])
        firsts = (counts.cumsum(0) - counts).tolist()
        pairs = [(first, list(combinations(range(n), 2))) for first, n in zip(firsts, counts.tolist(), strict=True)]
        return cls(
            branches,
            torch.tensor([(place.row, column) for place in found for column in place.sources]).T,
            torch.tensor([number for ids in texts for number in ids]),
            torch.tensor([number for number, ids in enumerate(texts) for _ in ids]),
            torch.tensor([float(ends or place < len(ids)) for ids in texts for place in range(1, len(ids) + 1)]),
            torch.tensor([(first + one, first + other) for first, own in pairs for one, other in own]).T,
            torch.tensor([1 / len(own) for _, own in pairs for _ in own]),
            torch.tensor(firsts),
            torch.tensor(firsts) + counts - 1,
        )

    def to(self, device: torch.device) -> Responses:
        """The same on a device."""
        return Responses(self.branches.to(device), *(part.to(device) for part in self[1:]))

    def likelihoods(self, model: Llama) -> Tensor:
        """ln p (tokens,) that the model gives every token, in fp32."""
        rows, columns = self.sources
        states = self.branches.states(model)[rows, columns]
        return log_likelihoods(states, model.head, self.targets, model.shape.logit_cap)

    def total(self, values: Tensor) -> Tensor:
        """Sums (responses,) of values of tokens."""
        return values.new_zeros(int(self.worst[-1]) + 1).index_add(0, self.owners, values)
