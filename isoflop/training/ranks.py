"""Data parallelism: several processes share every batch and add up their gradients.

Each rank takes its slice of the same global batch, so a run means the same whatever the number of ranks, up to the
rounding of a sum taken in another order. One message a step carries all gradients, the loss and each rank's wish to
stop, so that all ranks leave at the same step. Started by :func:`train_with` on one machine, or by torchrun, whose
environment it reads. On a CPU two processes of one thread each are faster than two threads (docs/lab.md). Left out:
sharding of parameters and optimiser, tensor and pipeline parallelism.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from isoflop.interrupt import INTERRUPTED, Interrupted, interruptible
from isoflop.progress import Report
from isoflop.training.run import Run

LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


@dataclass(frozen=True)
class Ranks:
    """Which of how many cooperating processes this one is."""

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: torch.device) -> Ranks:
        """Join the group that the environment speaks of (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), if any."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), count)

    @property
    def leads(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    def share(self, first: int, last: int) -> tuple[int, int]:
        """This rank's part of the half-open range first … last, as even as whole numbers allow."""
        size = last - first
        return first + size * self.rank // self.count, first + size * (self.rank + 1) // self.count

    def add(self, *tensors: Tensor) -> None:
        """Sum each fp32 tensor over the ranks, in place, in one message."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def gradients(model: nn.Module) -> list[Tensor]:
    """The gradients of all parameters; zeros where a rank's share was empty."""
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def train_with(processors: list[int], path: Path, report: Report) -> None:
    """Train the run in directory ``path`` (its config is there) with one pinned, one-thread process per processor.

    Raises Interrupted after Ctrl-C or SIGTERM, RuntimeError with the last words of a process that failed.
    """
    run, port = Run(path), free_port()
    total, log = run.config.schedule.tokens, path / "ranks.log"
    with interruptible() as stopped, log.open("ab") as output:
        ranks = [start(path, rank, processors, port, output.fileno()) for rank in range(len(processors))]
        try:
            while any(process.poll() is None for process in ranks):
                time.sleep(0.5)
                report(run.config.shape.name, run.tokens_so_far(), total)
                failed = any(process.poll() not in (None, 0) for process in ranks)
                if stopped() or failed:
                    for process in ranks:
                        process.terminate()
                    for process in ranks:
                        process.wait()
        finally:
            for process in ranks:
                process.kill()
    if run.summary is None:
        if stopped() or all(process.returncode in (0, INTERRUPTED) for process in ranks):
            raise Interrupted(f"stopped at {run.tokens_so_far():,} of {total:,} tokens; the same command goes on")
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("isoflop: ")]
        raise RuntimeError(f"training {path} failed: {lines[-1] if lines else 'see ' + str(log)}")


def start(path: Path, rank: int, processors: list[int], port: int, output: int) -> subprocess.Popen[bytes]:
    """Start one rank, pinned to its processor, talking over loopback only."""
    group = {"RANK": rank, "WORLD_SIZE": len(processors), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"), "1")
    environment = (
        os.environ | single | {"GLOO_SOCKET_IFNAME": LOOPBACK} | {name: str(value) for name, value in group.items()}
    )
    command = [sys.executable, "-m", "isoflop.training.rank", str(path)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
    )
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, {processors[rank]})
    return process


def free_port() -> int:
    """A port that is free on loopback now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
