"""A mixture's stream is arithmetic: exact shares, each source in its own order, the same samples for all who ask."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.tokens.apportion import LIMIT, Apportionment
from isoflop.tokens.blended import BlendedLoader, agree, blended_loaders, open_sources, segments
from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.loader import Loader
from isoflop.tokens.mixture import Blend, Mixture, Source
from isoflop.training.ranks import Ranks

NAMES = ("web", "code", "maths")
SOURCES = tuple(Source(name, name) for name in NAMES)
WEB_AND_CODE = {"web": 0.5, "code": 0.5}
MIX = Mixture(
    SOURCES,
    (
        Blend(0, {"web": 0.7, "code": 0.2, "maths": 0.1}),
        Blend(3000, WEB_AND_CODE),
        Blend(70_000, {"code": 1, "maths": 3}),
    ),
)
PLAIN = [(0, math.inf, 32)]
GROWING = [(0, 1024, 8), (1024, 8192, 16), (8192, math.inf, 32)]
Datasets = dict[str, TokenDataset]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory, write_tokens: Callable[..., Path]) -> Datasets:
    """Three sources, told apart by their ids: 70 each, from 0, 80 and 160 on."""
    folder, rng = tmp_path_factory.mktemp("sources"), random.Random(0)
    for number, name in enumerate(NAMES):
        documents = [
            [80 * number + rng.randrange(70) for _ in range(rng.randrange(1, 90))] for _ in range(100 - 30 * number)
        ]
        write_tokens(folder / name, documents, shard_tokens=1500)
    return open_sources(SOURCES, folder)


def stream(loaders: dict[int, BlendedLoader], stages: list[tuple[int, float, int]], tokens: int) -> list[np.ndarray]:
    """All samples of a run, one by one, each of its stage's length."""
    rows: list[np.ndarray] = []
    for start, end, context in stages:
        if start < (last := min(end, tokens)):
            rows += list(loaders[context].batch(start // context, int(last - start) // context))
    return rows


def source_of(row: np.ndarray) -> int:
    return int(np.median(row[row < 240])) // 80 if (row < 240).any() else -1


parts = st.lists(st.integers(0, 2**20), min_size=1, max_size=30).filter(any)


@given(parts, st.integers(0, 2**61))
def test_turns_go_to_one_party_each_and_never_far_from_the_share(sizes: list[int], first: int) -> None:
    turns = Apportionment(tuple(sizes))
    numbers = first + np.arange(50)
    counts = turns.counts(numbers)
    assert np.array_equal(counts.sum(0), numbers)
    assert set(np.diff(counts).ravel().tolist()) <= {0, 1}
    for size, mine in zip(sizes, counts.tolist(), strict=True):
        exact = [Fraction(int(n)) * size / sum(sizes) for n in numbers]
        assert max(abs(a - b) for a, b in zip(mine, exact, strict=True)) <= turns.worst + 1e-9 < 2


@given(parts, st.integers(0, 2**20))
def test_whole_rounds_give_everyone_exactly_what_is_due(sizes: list[int], rounds: int) -> None:
    counts = Apportionment(tuple(sizes)).counts(np.array([rounds * sum(sizes)]))
    assert counts[:, 0].tolist() == [rounds * size for size in sizes]


def test_shares_become_parts_without_losing_the_small_ones() -> None:
    assert Apportionment.of([1e-12, 3.0, 0.0]).parts == (1, 2**30, 0)
    for bad in ((), (0, 0), (-1, 2), (LIMIT, 1)):
        with pytest.raises(ValueError, match="whole numbers"):
            Apportionment(bad)


@pytest.mark.parametrize("stages", [PLAIN, GROWING])
def test_mixture_of_one_source_is_the_plain_stream(datasets: Datasets, stages: list[tuple[int, float, int]]) -> None:
    alone = Mixture.constant((SOURCES[0],), {"web": 2.0})
    blended = blended_loaders(datasets, alone, stages, 7)
    for start, end, context in stages:
        plain = Loader(datasets["web"], "train", context, 7, block=32, start=start, end=end)
        count = min(400, (int(min(end, 1e6)) - start) // context)
        assert np.array_equal(blended[context].batch(start // context, count), plain.batch(start // context, count))


@pytest.mark.parametrize("stages", [PLAIN, GROWING])
def test_every_source_gives_each_of_its_targets_once_an_epoch(
    datasets: Datasets, stages: list[tuple[int, float, int]]
) -> None:
    rows = stream(blended_loaders(datasets, MIX, stages, 1), stages, 160_000)
    order = np.concatenate(
        [
            loader.sources(start // c, int(min(end, 160_000) - start) // c)
            for (start, end, c), loader in ((s, blended_loaders(datasets, MIX, stages, 1)[s[2]]) for s in stages)
        ]
    )
    for number, name in enumerate(NAMES):
        mine = [row for row, source in zip(rows, order, strict=True) if source == number]
        assert all(source_of(row) in (number, -1) for row in mine)
        targets = np.concatenate([row[1:] for row in mine])
        blocks = Loader(datasets[name], context=32).samples_per_epoch
        tokens = datasets[name].tokens("train")[1 : blocks * 32 + 1]
        epochs = len(targets) // len(tokens)
        assert epochs >= 2
        for epoch in targets[: epochs * len(tokens)].reshape(epochs, -1):
            assert np.array_equal(np.sort(epoch), np.sort(tokens))


def test_every_part_of_a_run_has_its_shares_of_tokens(datasets: Datasets) -> None:
    for stages in (PLAIN, GROWING):
        loaders, drawn = blended_loaders(datasets, MIX, stages, 0), np.zeros((3, 1))
        for segment in segments(MIX, stages):
            context, end = segment.context, min(segment.end, 4000)
            first, last = segment.begin * 32 // context, int(end) * 32 // context
            sources = loaders[context].sources(first, last - first)
            drawn = np.cumsum(sources == np.arange(3)[:, None], axis=1) * context
            due = np.array(segment.shares)[:, None] * np.arange(1, last - first + 1) * context
            assert np.abs(drawn - due).max() <= (2 * 32 if context < 32 else 2 * context)


def test_blend_begins_with_the_first_block_at_its_point(datasets: Datasets) -> None:
    mixture = Mixture(SOURCES, (Blend(0, {"web": 1}), Blend(33, {"maths": 1}), Blend(640, {"code": 1})))
    loader = blended_loaders(datasets, mixture, PLAIN, 0)[32]
    assert loader.sources(0, 25).tolist() == [0] * 2 + [2] * 18 + [1] * 5


def test_a_thousand_points_of_resumption_give_the_uninterrupted_stream(datasets: Datasets) -> None:
    whole = {
        c: loader.batch(s // c, int(min(e, 160_000) - s) // c)
        for (s, e, c), loader in zip(GROWING, blended_loaders(datasets, MIX, GROWING, 3).values(), strict=True)
    }
    again, rng = blended_loaders(datasets, MIX, GROWING, 3), random.Random(0)
    for _ in range(1000):
        start, _, context = rng.choice(GROWING)
        at = rng.randrange(len(whole[context]))
        count = min(rng.randrange(1, 9), len(whole[context]) - at)
        assert np.array_equal(again[context].batch(start // context + at, count), whole[context][at : at + count])


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_any_number_of_ranks_and_any_micro_batch_see_the_same_global_batches(datasets: Datasets, ranks: int) -> None:
    loader = blended_loaders(datasets, MIX, PLAIN, 0)[32]
    for first, size in ((0, 64), (80, 32), (2180, 24)):
        whole, seen = loader.batch(first, size), []
        for rank in range(ranks):
            begin, end = Ranks(rank, ranks).share(first, first + size)
            seen += [loader.batch(at, min(rank + 3, end - at)) for at in range(begin, end, rank + 3)]
        assert np.array_equal(np.concatenate(seen), whole)


def test_sample_a_quadrillion_on_is_as_near_as_the_first(datasets: Datasets) -> None:
    assert blended_loaders(datasets, MIX, PLAIN, 0)[32].batch(10**15, 2).shape == (2, 33)


def test_order_depends_on_the_seed_and_the_mixture(datasets: Datasets) -> None:
    one = blended_loaders(datasets, MIX, PLAIN, 0)[32].batch(0, 50)
    assert not np.array_equal(one, blended_loaders(datasets, MIX, PLAIN, 1)[32].batch(0, 50))
    other = Mixture.constant(SOURCES, {"web": 0.6, "code": 0.3, "maths": 0.1})
    assert not np.array_equal(one, blended_loaders(datasets, other, PLAIN, 0)[32].batch(0, 50))


def test_limited_source_repeats_so_many_blocks_and_no_others(datasets: Datasets) -> None:
    rows = {}
    for seed in (0, 1):
        mixture = Mixture.constant((Source("web", "web", tokens=10 * 32 + 5),), {"web": 1})
        rows[seed] = blended_loaders(datasets, mixture, PLAIN, seed)[32].batch(0, 40)
        kinds, counts = np.unique(rows[seed], axis=0, return_counts=True)
        assert (len(kinds), set(counts.tolist())) == (10, {4})
    assert not np.array_equal(np.unique(rows[0], axis=0), np.unique(rows[1], axis=0))
    short = blended_loaders(datasets, mixture, [(0, 640, 16), (640, math.inf, 32)], 1)
    halves = np.unique(short[16].batch(0, 20)[:, :-1], axis=0)
    assert np.array_equal(halves, np.unique(rows[1][:, :-1].reshape(-1, 16), axis=0))


def test_sources_of_two_tokenizers_or_of_the_same_tokens_are_refused(
    datasets: Datasets, tmp_path: Path, write_tokens: Callable[..., Path]
) -> None:
    folder = datasets["web"].folder.parent
    with pytest.raises(ValueError, match="'web' and 'twin' are the same tokens"):
        open_sources((SOURCES[0], Source("twin", "web")), folder)
    other = write_tokens(tmp_path / "other", [[1, 2], [3]], dtype="<u4")
    with pytest.raises(ValueError, match=r"'web' .* and 'other' .* differ in dtype, <u2 and <u4"):
        open_sources((SOURCES[0], Source("other", str(other))), folder)


def test_runs_agree_up_to_where_their_blends_part() -> None:
    later = Mixture(SOURCES, (*MIX.blends[:2], Blend(80_000, {"code": 1})))
    for stages in (PLAIN, GROWING):
        one, two = segments(MIX, stages), segments(later, stages)
        assert agree(one, two, 70_000)
        assert not agree(one, two, 80_032)
    sooner = Mixture(SOURCES, (*MIX.blends[:2], Blend(6400, {"code": 1})))
    assert agree(segments(MIX, PLAIN), segments(sooner, PLAIN), 6400)
    assert not agree(segments(MIX, GROWING), segments(sooner, GROWING), 6400), "the stage is shuffled as a whole"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Mixture((), (Blend(0, {"web": 1}),)), "a name each"),
        (lambda: Mixture(SOURCES, (Blend(0, {"wbe": 1}),)), "'wbe', which is no source; sources are web, code, maths"),
        (lambda: Mixture(SOURCES, (Blend(5, {"web": 1}),)), "must begin at 0"),
        (lambda: Mixture(SOURCES, (Blend(0, {"web": 1}), Blend(0, {"web": 1}))), "one after another"),
        (lambda: Blend(0, {"web": -1.0}), "'web' from 0 tokens on is -1.0"),
        (lambda: Blend(0, {"web": 0.0}), "no weight above 0"),
        (lambda: Source("web", "x", tokens=0), "limited to 0 tokens"),
        (lambda: Mixture.constant(SOURCES, {"web": math.nan}), "'web' from 0 tokens on is nan"),
    ],
)
def test_impossible_mixtures_say_why(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
