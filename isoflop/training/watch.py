"""What a run says of its speed: tokens per second, MFU, peak memory and seconds by activity, once a second.

The figures are means over the steps since the last line that had them, so that short steps pay nothing for being
watched and long ones have them in every line. MFU is exact training FLOPs (``TrainConfig.flops_exact``) per second of
steps, validation and saving not counted, over the device's peak in the compute type: the vendor's on a GPU, on a CPU
the best product that ``isoflop plan --calibrate`` measured; without either there is none.
"""

from __future__ import annotations

import time

import torch

from isoflop.planning.hardware import Dtype, device
from isoflop.planning.machine import machine
from isoflop.training.checkpoint import Progress
from isoflop.training.clock import Clock
from isoflop.training.config import TrainConfig
from isoflop.training.hardware import peak_resident

SECONDS = 1.0
"""Least time between two lines with figures."""


class Watch:
    """The clock of a run, and its figures since they were last asked for.

    ``workers`` is how many devices share the run: GPUs, or processors of a CPU.
    """

    def __init__(self, config: TrainConfig, device: torch.device, compute: torch.dtype, workers: int) -> None:
        self.config, self.device = config, device
        self.clock = Clock(device)
        best = peak(device, "bf16" if compute == torch.bfloat16 else "fp32")
        self.peak = None if best is None else best * workers
        self._told = time.monotonic()
        self._last: Progress | None = None

    def begin(self, progress: Progress) -> None:
        """Where the run stands before the first step, from which the first figures count."""
        self._last, self._told = progress, time.monotonic()
        self.clock.read()

    def figures(self, progress: Progress) -> dict[str, float]:
        """The figures of a run that has come to ``progress``; nothing while the last ones are fresh."""
        if self._last is None or time.monotonic() - self._told < SECONDS:
            return {}
        seconds, tokens = progress.seconds - self._last.seconds, progress.tokens - self._last.tokens
        if seconds <= 0 or tokens <= 0:  # the run was taken back to a checkpoint meanwhile
            self.begin(progress)
            return {}
        rate = tokens / seconds
        found = {"tokens_per_second": round(rate, 1), "peak_memory": float(peak_memory(self.device))}
        if self.peak is not None:
            flops = self.config.flops_exact(self._last.tokens, progress.tokens)
            found["mfu"] = round(flops / seconds / self.peak, 4)
        found |= {f"seconds/{activity}": round(taken, 4) for activity, taken in self.clock.read().items()}
        self._last, self._told = progress, time.monotonic()
        return found


def peak(where: torch.device, dtype: Dtype) -> float | None:
    """FLOP/s of the best product there, of a whole GPU or of one processor of a CPU; None where it is not known."""
    try:
        if where.type == "cuda":
            return device(torch.cuda.get_device_name(where)).rate(dtype)
        here = machine()
        return None if here is None else here.device.rate(dtype)
    except ValueError:  # not in the catalogue, or measured before something changed, which plans say
        return None


def peak_memory(device: torch.device) -> int:
    """Most bytes held so far: tensors of a GPU, or this process's memory that was resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_resident()
