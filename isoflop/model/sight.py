"""Which tokens of a row see which: documents apart, and in a document branches apart that go on from one trunk.

``documents`` are ids (batch, time), runs of which are documents; or pairs (batch, time, 2) of a document and a branch
in it, where branch 0 is the trunk. A token sees what stands before it in its document: all of it, or of branches the
trunk and its own. Several responses to one prompt are read that way in one row (Llama 3, arXiv 2407.21783, section
4.1.2).
"""

from __future__ import annotations

from torch import Tensor

Ids = tuple[Tensor, ...]
"""Documents, and branches if there are any, in tensors of one shape."""


def planes(documents: Tensor) -> Ids:
    """``documents`` as one tensor (batch, time) for every id that a token has."""
    return (documents,) if documents.dim() == 2 else documents.unbind(-1)


def sees(query: Ids, key: Ids) -> Tensor:
    """Whether a token may see another, were it earlier, both given by their ids."""
    same = query[0] == key[0]
    return same if len(query) == 1 else same & ((key[1] == 0) | (key[1] == query[1]))


def within(documents: Tensor, start: int, end: int) -> Tensor:
    """Whether the queries ``start`` to ``end`` may see each key before ``end``: (batch, 1, queries, keys)."""
    ids = planes(documents)
    return sees(tuple(i[:, None, start:end, None] for i in ids), tuple(i[:, None, None, :end] for i in ids))
