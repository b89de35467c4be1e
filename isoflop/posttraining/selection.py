"""Which examples a round learns from: good ones, hard ones, no two alike, in a stated mix.

Llama 3's way (arXiv 2407.21783, section 4.2.3): a reward in the top quartile counts as good; difficulty is scored;
examples are clustered by what they mean, taken by quality times difficulty, and kept where they are not too like one
that is kept already; categories have their weights. Here an example means the mean of a model's final states over its
tokens (:func:`embed`), and is the harder the fewer of K answers were right and the longer its chain.

All but :func:`embed` are functions of arrays. Duplicates across clusters are not looked for, which is what clusters
are for: the cost is the sum of their squares instead of n². Left out: a model as judge, counts of intentions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from isoflop.keys import derive_key
from isoflop.model.llama import Llama
from isoflop.posttraining.branches import portions
from isoflop.posttraining.rows import STEP
from isoflop.tokens.order import permutation

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

READ_TOKENS = 8192
ROUNDS = 10
"""Of k-means; few, because clusters only bound the search."""


@torch.no_grad()
def embed(model: Llama, texts: Sequence[Sequence[int]]) -> Floats:
    """The mean final state (texts, width) of each of these lists of ids, of what fits into the context; of length 1."""
    device, context = model.embedding.device, model.shape.context
    found = np.zeros((len(texts), model.shape.width))
    for portion in portions([min(len(text), context) for text in texts], READ_TOKENS):
        longest = min(context, -(-len(texts[portion[0]]) // STEP) * STEP)
        ids = torch.zeros(len(portion), longest, dtype=torch.long)
        real = torch.zeros(len(portion), longest, 1)
        for row, number in enumerate(portion):
            own = texts[number][:longest]
            ids[row, : len(own)], real[row, : len(own)] = torch.tensor(own, dtype=torch.long), 1.0
        states = model.hidden(ids.to(device)).float().cpu()  # causal: what fills a row up is seen by nothing before it
        found[portion] = ((states * real).sum(1) / real.sum(1).clamp(min=1)).numpy()
    return unit(found)


def unit(vectors: Floats) -> Floats:
    """Each row at length 1; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0))


def clusters_of(vectors: Floats, count: int, seed: int = 0) -> Ints:
    """Which of ``count`` clusters each vector (n, d) of length 1 is in: spherical k-means from keyed beginnings."""
    count = max(1, min(count, len(vectors)))
    first = permutation(len(vectors), derive_key(seed, "clusters"))(np.arange(count))
    centres, nearest = vectors[first], np.zeros(len(vectors), np.int64)
    for _ in range(ROUNDS):
        nearest = (vectors @ centres.T).argmax(1)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, vectors)
        kept = np.bincount(nearest, minlength=count)[:, None] > 0
        centres = np.where(kept, unit(sums), centres)
    return nearest


def distinct(vectors: Floats, scores: Floats, threshold: float, clusters: int = 0, seed: int = 0) -> Ints:
    """The numbers of examples to keep, ascending, so that no two of a cluster are more alike than ``threshold``.

    ``vectors`` (n, d) are of length 1; likeness is their cosine. Those with the highest ``scores`` (n,) are taken
    first, the earlier of equals. ``clusters`` is by default √n.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"the cosine above which two examples are alike is between 0 and 1, not {threshold}")
    if not len(vectors):
        return np.zeros(0, np.int64)
    groups = clusters_of(vectors, clusters or round(len(vectors) ** 0.5), seed)
    kept: list[int] = []
    for group in np.unique(groups):
        own: list[int] = []
        members = np.flatnonzero(groups == group)
        for number in members[np.argsort(-scores[members], kind="stable")].tolist():
            if not own or float((vectors[own] @ vectors[number]).max()) <= threshold:
                own.append(number)
        kept += own
    return np.array(sorted(kept), np.int64)


def good(rewards: Floats, share: float = 0.25) -> NDArray[np.bool_]:
    """Which rewards (n,) are among the highest ``share``; all that equal the last of them are."""
    return np.asarray(rewards >= np.quantile(rewards, 1 - share)) if len(rewards) else np.zeros(0, np.bool_)


def difficulty(right: Floats, lengths: Floats, by_length: float = 0.5) -> Floats:
    """How hard problems are, from 0 to 1: the share of K answers that is wrong, and how long the chain is.

    ``right`` (n,) are shares of right answers, ``lengths`` (n,) tokens of worked answers, which count by their rank
    among all, with weight ``by_length``.
    """
    ranks = np.searchsorted(np.sort(lengths), lengths, side="left") / max(1, len(lengths) - 1)
    return np.asarray((1 - by_length) * (1 - right) + by_length * ranks)


def mix(categories: Sequence[str], shares: Mapping[str, float], total: int, seed: int = 0) -> Ints:
    """The numbers of ``total`` examples of which each category has its share, in a keyed order.

    A category with too few examples is taken over and over, every one as often as any other or once more; one with too
    many gives a part. Raises ValueError for a category that has a share and no example, and for a mix of nothing.
    """
    wanted = {name: share for name, share in shares.items() if share > 0}
    if not wanted or min(shares.values()) < 0 or total < 1:
        raise ValueError(f"a mix is of one example or more, its shares are above 0: {total}, {dict(shares)}")
    if missing := sorted(set(wanted) - set(categories)):
        raise ValueError(f"the mix asks for {', '.join(missing)}, of which there is no example")
    taken = []
    for name, count in counts_of(wanted, total).items():
        own = np.array([number for number, category in enumerate(categories) if category == name])
        whole, rest = divmod(count, len(own))
        taken += [own] * whole + [own[permutation(len(own), derive_key(seed, "mix", name))(np.arange(rest))]]
    chosen = np.concatenate(taken)
    return chosen[permutation(len(chosen), derive_key(seed, "mix"))(np.arange(len(chosen)))]


def counts_of(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole numbers that add up to ``total`` in proportion to the shares, by largest remainders."""
    exact = {name: total * share / sum(shares.values()) for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: counts[name] - exact[name])[: total - sum(counts.values())]:
        counts[name] += 1
    return counts
