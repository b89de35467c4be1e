import itertools
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.corpus.dedup import runs
from isoflop.corpus.dedup.components import Components

EDGE = st.tuples(st.integers(0, 39), st.integers(0, 39))
RECORD = np.dtype([("key", "u8"), ("number", "u8")])


def write(folder, shards):
    number = itertools.count()
    for shard, keys in enumerate(shards):
        records = np.array([(key, next(number)) for key in keys], RECORD)
        runs.write(runs.run_path(folder, "r", shard), records)
    return runs.run_paths(folder, "r", len(shards))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5), max_size=60), min_size=1, max_size=5),
    st.integers(1, 4000),
)
def test_merging_gives_every_record_once_in_order_and_never_parts_a_key(tmp_path_factory, shards, memory):
    folder = tmp_path_factory.mktemp("runs")
    ranges = list(runs.merged(write(folder, shards), memory))
    numbered = sorted((key, n) for n, key in enumerate(itertools.chain.from_iterable(shards)))
    assert [tuple(record) for piece in ranges for record in piece.tolist()] == numbered
    for left, right in itertools.pairwise(ranges):
        assert left["key"][-1] < right["key"][0]


def test_a_range_takes_about_the_memory_that_it_was_given(tmp_path):
    rng = np.random.default_rng(0)
    paths = write(tmp_path, [rng.integers(0, 2**64, 5000, np.uint64).tolist() for _ in range(4)])
    sizes = [piece.nbytes * runs.COPIES for piece in runs.merged(paths, 100_000)]
    assert len(sizes) >= 12
    assert max(sizes) < 150_000


def test_between_reads_just_the_keys_asked_for(tmp_path):
    paths = write(tmp_path, [[5, 1, 9], [], [4, 5, 6]])
    assert runs.between(paths, 4, 6)["key"].tolist() == [4, 5, 5]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.lists(st.lists(EDGE, max_size=30), max_size=4))
def test_components_are_those_of_a_plain_search_whatever_the_order_of_edges(tmp_path_factory, size, batches):
    components = Components(tmp_path_factory.mktemp("c") / "parents.npy", size)
    group = list(range(size))
    for batch in batches:
        edges = [(a % size, b % size) for a, b in batch]
        components.union(np.array([a for a, _ in edges], np.int64), np.array([b for _, b in edges], np.int64))
        for a, b in edges:
            low, high = sorted((group[a], group[b]))
            group = [low if g == high else g for g in group]
    assert components.find(np.arange(size)).tolist() == group


def test_a_long_chain_is_one_component_in_time(tmp_path):
    size = 1 << 18
    components = Components(tmp_path / "parents.npy", size)
    start = time.process_time()
    components.union(np.arange(size - 1), np.arange(1, size))
    assert not components.find(np.arange(size)).any()
    assert time.process_time() - start < 5


def peak_of_merging(folder, records, memory):
    """The most bytes that numpy held at once while so many records were merged."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    paths = []
    for shard in range(records // 20_000):
        run = np.zeros(20_000, RECORD)
        run["key"] = rng.integers(0, 2**64, len(run), np.uint64)
        paths.append(runs.run_path(folder, "r", shard))
        runs.write(paths[-1], run)
    tracemalloc.start()
    seen = sum(len(piece) for piece in runs.merged(paths, memory))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == records
    return peak


@pytest.mark.parametrize("records", [40_000, 400_000])
def test_memory_stays_within_what_was_given_however_large_the_corpus(tmp_path, records):
    assert peak_of_merging(tmp_path / "r", records, 1 << 20) < 1.1 * (1 << 20)
