"""Writing checkpoints, at once or in a thread while training goes on.

In the background a save costs training the copy of the tensors into the machine's memory; the buffers stay for the next
save, so the price is the checkpoint's size in memory. One save is in flight at most: the next waits for it, and so do
the end of the run and whatever reads a checkpoint. An error of the thread, as a full disk, is raised at the next call.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor

from isoflop.training import checkpoint
from isoflop.training.checkpoint import Contents, Progress


class Saver:
    """Writes the checkpoints of a run, in a thread of its own if ``background``."""

    def __init__(self, run: Path, background: bool) -> None:
        self._run, self._background = run, background
        self._thread: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None
        self._buffers: dict[tuple[str, str], Tensor] = {}

    def __call__(self, progress: Progress, contents: Contents, written: Callable[[], None]) -> None:
        """Write a checkpoint and, once it is complete, do ``written``."""
        self.wait()
        if not self._background:
            self._write(progress, contents, written)
            return
        self._thread = self._thread or ThreadPoolExecutor(1, "checkpoint")
        self._writing = self._thread.submit(self._write, progress, self._copied(contents), written)

    def wait(self) -> None:
        """Wait until nothing is being written; raises what went wrong with the last save."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def check(self) -> None:
        """Raise what went wrong with the last save, if it has ended, without waiting for it."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def close(self) -> None:
        """Wait for the last save and end the thread."""
        try:
            self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()

    def _write(self, progress: Progress, contents: Contents, written: Callable[[], None]) -> None:
        checkpoint.write(self._run, progress, contents)
        written()

    def _copied(self, contents: Contents) -> Contents:
        """The contents as they are now, in buffers of the machine's memory that the last save has done with."""
        copies = {
            name: ({key: self._copy(name, key, tensor) for key, tensor in tensors.items()}, deepcopy(record))
            for name, (tensors, record) in contents.items()
        }
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        return copies

    def _copy(self, name: str, key: str, tensor: Tensor) -> Tensor:
        buffer = self._buffers.get((name, key))
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[name, key] = buffer
        return buffer.copy_(tensor, non_blocking=True)
