"""Files that are there whole or not at all: a temporary name, a sync, a rename. Shared by every room that writes.

A temporary name is nobody else's, because two machines may be at the same file: the first loses its connection, the
second is given its task. What a kill leaves under one is for the room to remove (``remove_temporaries``).
A full disk is the user's to solve, so it is said as a sentence.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: two processes at work on one folder are then the user's to avoid
    fcntl = None  # type: ignore[assignment]

TEMPORARY = ".partial"
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)


class DiskFullError(OSError):
    """No space was left; what was complete before is intact."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk into a sentence that says where and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise DiskFullError(f"the disk is full: {path} could not be written; free some space and run again") from error


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def temporary_for(path: Path) -> Path:
    """A new name beside ``path`` for what will be it."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}{TEMPORARY}")


def remove_temporaries(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder and below; nobody may be writing there."""
    for path in list(folder.rglob(f"*{TEMPORARY}")):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def discard(folder: Path) -> None:
    """Remove a folder, if it is there; a kill meanwhile leaves none that looks like it."""
    gone = temporary_for(folder.with_name(f".{folder.name}"))
    with suppress(FileNotFoundError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def commit(temporary: Path, path: Path) -> None:
    """Give a synced file its name, and make the name itself survive a crash."""
    temporary.replace(path)
    sync(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``path`` so that a crash at any moment leaves the old file or the new one."""
    temporary = temporary_for(path)
    try:
        temporary.write_bytes(data)
        sync(temporary)
        commit(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with disk_errors(path):
        write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write into a temporary folder, sync it and rename it to ``path``, replacing an older one.

    The temporary folder is hidden, so that no listing of finished ones meets it.
    """
    temporary = temporary_for(path.with_name(f".{path.name}"))
    with disk_errors(path):
        try:
            temporary.mkdir(parents=True)
            fill(temporary)
            for file in temporary.iterdir():
                sync(file)
            sync(temporary)
            _take_place(temporary, path)
            sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _take_place(temporary: Path, path: Path) -> None:
    """Rename a folder to ``path``, however many others do the same."""
    while True:
        try:
            temporary.rename(path)
            return
        except OSError as error:
            # another's folder may stand there as we rename and be gone as we look: what was said tells, not the look
            if error.errno not in OCCUPIED and not path.exists():
                raise
        discard(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, waiting aloud for other processes that hold it; a kill lets go of it too."""
    with path.open("a") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"another process is at work in {path.parent}; waiting for it", file=sys.stderr, flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file ``path`` now; False where there is none, or where locks are not known."""
    if fcntl is None or not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
