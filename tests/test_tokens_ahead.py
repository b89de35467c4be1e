"""Reading ahead changes when something is read, never what, and holds no more than it may."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.tokens.ahead import ReadAhead


@given(st.integers(0, 4), st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 9), unique=True)), max_size=20))
def test_every_request_gets_its_own_result_whatever_was_foreseen(
    depth: int, asked: list[tuple[int, list[int]]]
) -> None:
    read: ReadAhead[int, int] = ReadAhead(lambda key: key * key, depth)
    assert [read(key, coming) for key, coming in asked] == [key * key for key, _ in asked]
    read.close()


def test_what_is_coming_is_read_in_the_meantime_and_once() -> None:
    calls, third = [], threading.Event()

    def read(key: int) -> int:
        calls.append((key, threading.current_thread() is threading.main_thread()))
        if len(calls) == 3:
            third.set()
        return key

    ahead: ReadAhead[int, int] = ReadAhead(read, 2)
    ahead(0, [1, 2, 3])
    assert third.wait(5)
    assert sorted(calls) == [(0, True), (1, False), (2, False)]
    ahead(1, [2])
    ahead(2, [])
    assert len(calls) == 3
    ahead.close()


def test_error_of_a_read_in_the_thread_is_raised_where_it_is_asked_for() -> None:
    def read(key: int) -> float:
        return 1 / key

    ahead: ReadAhead[int, float] = ReadAhead(read, 1)
    assert ahead(1, [0]) == 1
    with pytest.raises(ZeroDivisionError):
        ahead(0, [])
    ahead.close()


def test_closing_ends_the_thread() -> None:
    before = threading.active_count()
    ahead: ReadAhead[int, int] = ReadAhead(lambda key: key, 3)
    ahead(0, [1, 2, 3])
    assert threading.active_count() == before + 1
    ahead.close()
    assert threading.active_count() == before
