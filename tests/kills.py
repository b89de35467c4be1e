"""Killing a process from inside, at an exact line: no sleeping, no luck."""

from __future__ import annotations

import os
import signal
from typing import Any


def kill_at(owner: Any, name: str, calls: int) -> None:
    """From now on SIGKILL ends this process as ``owner.name`` is called for the ``calls``-th time. For forks only."""
    original, left = getattr(owner, name), iter(range(calls - 1))

    def deadly(*arguments: Any, **keywords: Any) -> Any:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **keywords)

    setattr(owner, name, deadly)
