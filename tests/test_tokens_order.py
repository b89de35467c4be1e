import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.keys import derive_key, keyed
from isoflop.tokens import Permutation
from isoflop.tokens.order import Order

KEYS = st.integers(0, 2**64 - 1)


@given(st.integers(1, 3000), KEYS)
def test_the_permutation_is_a_bijection_of_any_size(n, key):
    assert np.array_equal(np.sort(Permutation(n, key)(np.arange(n))), np.arange(n))


@given(st.integers(1, 2**62), KEYS, st.lists(st.integers(0, 2**62), min_size=1))
def test_the_inverse_leads_back_at_sizes_that_no_array_could_hold(n, key, indices):
    permutation = Permutation(n, key)
    indices = np.array(indices) % n
    positions = permutation(indices)
    assert positions.dtype == np.int64
    assert (positions >= 0).all()
    assert (positions < n).all()
    assert np.array_equal(permutation.inverse(positions), indices)
    assert np.array_equal(permutation(permutation.inverse(indices)), indices)


def test_one_index_is_the_same_alone_and_in_any_shape():
    permutation = Permutation(1000, 7)
    whole = permutation(np.arange(1000))
    assert permutation(417) == whole[417]
    assert np.array_equal(permutation(np.arange(1000).reshape(10, 100)), whole.reshape(10, 100))


def test_every_place_is_as_likely_as_every_other():
    n, keys = 12, 3000
    counts = np.zeros((n, n))
    for key in range(keys):
        counts[np.arange(n), Permutation(n, derive_key(key, "test"))(np.arange(n))] += 1
    chi_squared = ((counts - keys / n) ** 2 / (keys / n)).sum(axis=1)
    # 11 degrees of freedom in each row: the mean is 11, and 45 is about 6 in a million.
    assert chi_squared.max() < 45
    assert 6 < chi_squared.mean() < 18


def test_neighbours_are_torn_apart():
    n = 10_000
    positions = Permutation(n, 3)(np.arange(n))
    assert abs(np.corrcoef(positions, np.arange(n))[0, 1]) < 0.04
    assert np.count_nonzero(np.abs(np.diff(positions)) == 1) < 12


def test_the_order_never_changes_between_versions():
    """Runs resume from these numbers: a change here breaks every run that is under way."""
    assert Permutation(10, derive_key(0, "order", "x", 3))(np.arange(10)).tolist() == [
        1,
        3,
        9,
        0,
        4,
        2,
        8,
        7,
        6,
        5,
    ]


def test_keys_depend_on_every_name_and_on_nothing_else():
    names = [(0, "a", 1), (1, "a", 1), (0, "a", "1"), (0, "a1"), (0, "a", 1, 0), (0,)]
    assert len({derive_key(*name) for name in names}) == len(names)


def test_a_changed_key_changes_half_of_the_bits():
    values = np.arange(1000, dtype=np.uint64)
    changed = np.bitwise_count(keyed(values, 1) ^ keyed(values, 2))
    assert 30 < changed.mean() < 34


@pytest.mark.parametrize("index", [-1, 10, 2**62])
def test_an_index_outside_is_an_error(index):
    with pytest.raises(IndexError):
        Permutation(10, 0)([index])


@pytest.mark.parametrize("n", [0, -5, 2**62 + 1])
def test_an_impossible_size_is_an_error(n):
    with pytest.raises(ValueError, match="n must be"):
        Permutation(n, 0)


@st.composite
def runs(draw):
    """A split of so many blocks, and a run over it whose sequences double in length: (blocks, orders by stage)."""
    blocks, doublings = draw(st.integers(1, 30)), draw(st.integers(0, 3))
    ends = sorted(draw(st.sets(st.integers(1, 90), min_size=doublings, max_size=doublings)))
    cuts = [0, *ends, math.inf]
    seed = draw(st.integers(0, 2**32))
    return blocks, [
        Order(blocks, seed, ("x",), 2 ** (doublings - i), cuts[i], cuts[i + 1]) for i in range(doublings + 1)
    ]


def samples(order, end):
    """The numbers of a stage's samples, in a run of ``end`` blocks."""
    return np.arange(order.begin * order.pieces, int(min(order.end, max(end, order.begin))) * order.pieces)


@given(runs())
def test_every_epoch_is_every_token_once_wherever_the_context_grows(run):
    blocks, orders = run
    finest, epochs = orders[0].pieces, 4
    seen = []
    for order in orders:
        if (numbers := samples(order, epochs * blocks)).size:
            length = finest // order.pieces
            seen.append((order(numbers)[:, None] * length + np.arange(length)).ravel())
    for epoch in np.concatenate(seen).reshape(epochs, blocks * finest):
        assert np.array_equal(np.sort(epoch), np.arange(blocks * finest))


@given(runs(), st.data())
def test_any_part_of_a_stage_is_the_same_alone_as_in_the_whole(run, data):
    blocks, orders = run
    order = data.draw(st.sampled_from([o for o in orders if o.begin < 4 * blocks]))
    numbers = samples(order, 4 * blocks)
    first = data.draw(st.integers(0, len(numbers) - 1))
    last = data.draw(st.integers(first + 1, len(numbers)))
    assert np.array_equal(order(numbers[first:last]), order(numbers)[first:last])


def test_without_shorter_contexts_an_epoch_is_one_permutation():
    """Runs from before contexts grew resume from these numbers."""
    epochs = [Permutation(37, derive_key(5, "order", "x", "train", epoch))(np.arange(37)) for epoch in range(3)]
    assert np.array_equal(Order(37, 5, ("x", "train"))(np.arange(3 * 37)), np.concatenate(epochs))


def test_pieces_of_a_block_share_a_batch_no_more_often_than_others():
    order, rows = Order(1000, 0, ("x",), pieces=16, begin=200, end=600), 100
    batches = order(samples(order, 600)).reshape(-1, rows) // 16
    pairs = [rows - len(np.unique(batch)) for batch in batches]
    # Of 400 blocks, 100 rows drawn at random miss 400·(1 − 1/400)^100: 11.4 rows repeat a block. Unshuffled it is 93.
    assert 10.4 < np.mean(pairs) < 12.4
    assert len(np.unique(batches)) == 400


def test_a_sample_of_another_stage_is_an_error():
    order = Order(10, 0, ("x",), pieces=2, begin=3, end=5)
    assert len(order(np.arange(6, 10))) == 4
    for number in (5, 10):
        with pytest.raises(ValueError, match="not of this stage, which has 6 to 9"):
            order(np.array([number]))
