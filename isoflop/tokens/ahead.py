"""Reading ahead: what will be asked for next is read in a thread while the caller computes.

As every read is a function of its request, reading ahead can change when things are read and never what: a request that
was not foreseen is read at once, and one foreseen in vain is dropped. At most ``depth`` results are held. The thread
sleeps between requests, and ends with ``close`` or with the process.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ReadAhead(Generic[K, V]):
    """``read``, and up to ``depth`` of the requests said to come read beforehand; with a depth of 0, ``read`` alone."""

    def __init__(self, read: Callable[[K], V], depth: int) -> None:
        self._read, self._depth = read, depth
        self._thread = ThreadPoolExecutor(1, "read-ahead")
        self._pending: dict[K, Future[V]] = {}

    def __call__(self, request: K, coming: Sequence[K]) -> V:
        """The result of ``request``; the first of those ``coming``, in order, are begun. Errors are ``read``'s."""
        found, before = self._pending.pop(request, None), self._pending
        self._pending = {key: before.get(key) or self._begin(key) for key in coming[: self._depth]}
        for key in before.keys() - self._pending.keys():
            before[key].cancel()
        return self._read(request) if found is None else found.result()

    def _begin(self, request: K) -> Future[V]:
        return self._thread.submit(self._read, request)

    def close(self) -> None:
        """Drop what is pending and end the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._pending = {}
