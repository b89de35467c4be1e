"""A prompt and several responses to it in one row, the prompt read once, no response seeing another.

As Llama 3's reward model is trained (arXiv 2407.21783, section 4.1.2). Every response goes on from the prompt's end:
its positions begin there whatever stands between, so its states, and what its loss does to the weights, are those of
prompt and response alone. Several such trees share a row where they fit. Costs attention over the row's square on a
CPU (``model.sight``), which short rows repay by the prompts that are not read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from isoflop.model.llama import Llama
from isoflop.posttraining.rows import STEP


class Tree(NamedTuple):
    """The ids of a prompt, at least one, and of responses to it."""

    prompt: Sequence[int]
    responses: Sequence[Sequence[int]]

    @property
    def size(self) -> int:
        """Tokens in a row."""
        return len(self.prompt) + sum(map(len, self.responses))

    @property
    def reach(self) -> int:
        """Tokens of the prompt and its longest response, which must fit into a model's context."""
        return len(self.prompt) + max(map(len, self.responses))


class Place(NamedTuple):
    """Where a response lies: its row, the column of its prompt's last token, its first column and that behind it."""

    row: int
    trunk: int
    start: int
    end: int

    @property
    def sources(self) -> list[int]:
        """The columns whose states say what the response's tokens will be."""
        return [self.trunk, *range(self.start, self.end - 1)]


@dataclass(frozen=True)
class Branches:
    """Trees laid out in rows.

    ``tokens`` and ``positions`` are (rows, time), ``documents`` (rows, time, 2): the tree of its row, −1 for padding,
    and the response, 0 for the prompt. ``places`` has a place for every response of every tree, row by row.
    """

    tokens: Tensor
    documents: Tensor
    positions: Tensor
    places: tuple[tuple[Place, ...], ...]

    def states(self, model: Llama) -> Tensor:
        """The model's final states (rows, time, width)."""
        return model.hidden(self.tokens, self.documents, positions=self.positions)

    def to(self, device: torch.device) -> Branches:
        """The same on a device."""
        tokens, documents, positions = (t.to(device) for t in (self.tokens, self.documents, self.positions))
        return Branches(tokens, documents, positions, self.places)

    def last(self, states: Tensor) -> Tensor:
        """The states (responses, width) of every response's last token, tree by tree."""
        flat = [place for places in self.places for place in places]
        return states[[place.row for place in flat], [place.end - 1 for place in flat]]


def lay_out(rows: Sequence[Sequence[Tree]], length: int) -> Branches:
    """The trees of each row, which must fit into its ``length`` tokens."""
    shape = len(rows), length
    tokens, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    documents = np.full((*shape, 2), (-1, 0), np.int64)
    places = []
    for row, trees in enumerate(rows):
        start = 0
        for number, tree in enumerate(trees):
            prompt, own = len(tree.prompt), []
            trunk = start + prompt - 1
            for branch, ids in enumerate((tree.prompt, *tree.responses)):
                first, end = (prompt if branch else 0), start + len(ids)
                tokens[row, start:end], documents[row, start:end] = ids, (number, branch)
                positions[row, start:end] = range(first, first + len(ids))
                if branch:
                    own.append(Place(row, trunk, start, end))
                start = end
            places.append(tuple(own))
    laid = [torch.from_numpy(array) for array in (tokens, documents, positions)]
    return Branches(laid[0], laid[1], laid[2], tuple(places))


def room_for(sizes: Iterable[int]) -> int:
    """Tokens of a row into which each tree of these sizes fits."""
    return -(-max(sizes, default=1) // STEP) * STEP


def portions(sizes: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Numbers of trees, the longest first, in portions whose rows have about ``limit`` tokens, at least one in each."""
    portion: list[int] = []
    used = 0
    for number in sorted(range(len(sizes)), key=lambda n: -sizes[n]):
        if portion and used + sizes[number] > limit:
            yield portion
            portion, used = [], 0
        portion.append(number)
        used += sizes[number]
    if portion:
        yield portion
