"""Files that are there whole or not at all: a temporary name, a sync, a rename."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: two preparations of one folder at a time are then the user's to avoid
    fcntl = None  # type: ignore[assignment]

TEMPORARY = ".partial"


def write_file(path: Path, data: bytes) -> None:
    """Write ``path`` so that a crash at any moment leaves the old file or the new one."""
    temporary = path.with_name(path.name + TEMPORARY)
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    commit(temporary, path)


def commit(temporary: Path, path: Path) -> None:
    """Give a synced file its name, and make the name itself survive a crash."""
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, waiting for other processes that hold it; a kill lets go of it too."""
    with path.open("a") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
