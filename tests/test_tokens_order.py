import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.tokens import Permutation
from isoflop.tokens.keys import derive_key, keyed

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
