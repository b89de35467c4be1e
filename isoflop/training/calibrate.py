"""Measure this machine: best products, memory bandwidth and a handful of real training steps, and fit the roofline.

``planning.throughput`` says a step's time as a sum of quantities over peaks times shares. Here the peaks are measured
alone, steps of well-spread small configurations are timed as ``training/loop.py`` does them, and the shares follow by
least squares of relative errors within bounds. On two AVX2 cores that took 2 min 11 s, a third of it compiling;
steps are faster where bf16 is native. Run as ``python -m isoflop.training.calibrate OUT``.

Other work on the machine spoils the timings, with two threads most of all: run it alone. With a GPU the same code
measures the GPU; that was never run. Left out: links between devices, which one device does not have; reading of data,
which costs little.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch

from isoflop.interrupt import INTERRUPTED, follow_parent
from isoflop.model.attention import SHORT
from isoflop.model.llama import Llama
from isoflop.planning.efficiency import Efficiency
from isoflop.planning.hardware import Device, Dtype, Rates
from isoflop.planning.ladder import shape_for
from isoflop.planning.layout import Layout
from isoflop.planning.machine import Machine, Timing, processor_name, torch_version
from isoflop.planning.shape import Shape
from isoflop.planning.work import Implementation, Work, work
from isoflop.processors import processors
from isoflop.progress import Report, console, silent
from isoflop.training.config import OptimizerConfig
from isoflop.training.hardware import compile_for, device_for, precision_for
from isoflop.training.loss import CHUNK_ELEMENTS, cross_entropy
from isoflop.training.optimizer import build_optimizer

SIZES = (512, 1024, 2048, 4096)
"""Widths of the square products among which the best counts."""
SECONDS = 1.5
"""Timed steps of one configuration, beside warming up."""
LEAST, MOST = 3, 50
"""Steps of one configuration."""
SHARES = {"products": (0.05, 1.0), "attention": (0.005, 1.0), "elementwise": (0.02, 50.0), "bandwidth": (0.05, 1.0)}
"""What a share may be: at most all of what was measured, but for activations, which caches serve."""
SLOWEST_LAUNCH = 1e-3
"""Seconds a kernel's launch may cost."""


@dataclass(frozen=True)
class Probe:
    """A configuration to time: parameters (``matmul``), vocabulary, context, sequences and micro-batches a step."""

    parameters: float
    vocab: int
    context: int
    rows: int
    micro: int = 1

    @property
    def shape(self) -> Shape:
        """The ladder's model of this size."""
        return shape_for(self.parameters, self.vocab, context=self.context)


PROBES = (
    Probe(2e5, 512, 128, 8),
    Probe(2e5, 1024, 512, 8),
    Probe(1e6, 512, 1024, 1),
    Probe(2e6, 4096, 256, 4, 4),
    Probe(6e6, 32_000, 128, 8),
    Probe(8e6, 1024, 2048, 1),
    Probe(2e7, 4096, 256, 4),
)
"""Two orders of magnitude of size; short and long context, small and large vocabulary and micro-batch."""


class Stepper:
    """A model and its optimiser, and the training step of ``training/loop.py`` on random tokens."""

    def __init__(self, shape: Shape, rows: int, micro: int, device: torch.device, *, compiled: bool) -> None:
        self.device, self.compiled = device, compiled
        self.model = Llama(shape, compute=precision_for("auto", device), compiled=compiled).initialise(0).to(device)
        self.optimizer = build_optimizer(self.model, OptimizerConfig())
        generator = torch.Generator().manual_seed(0)
        self.batch = torch.randint(shape.vocab, (micro, rows, shape.context + 1), generator=generator).to(device)

    def __call__(self) -> float:
        """Take one step; returns its wall time in seconds."""
        began, size = now(self.device), self.batch[..., 1:].numel()
        for tokens in self.batch:
            hidden = self.model.hidden(tokens[:, :-1])
            loss = cross_entropy(hidden, self.model.head, tokens[:, 1:], fast=self.compiled) / size
            loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), OptimizerConfig.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return now(self.device) - began


def now(device: torch.device) -> float:
    """The time once the device is done, in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def time_steps(
    shape: Shape, rows: int, micro: int, device: torch.device, *, compiled: bool, seconds: float = SECONDS
) -> Timing:
    """Time steps of a configuration: one that compiles, one that warms up, then as many as the time allows.

    Graphs are forgotten before, so that every configuration compiles and none is counted against torch's limit of them.
    """
    if compiled:
        torch.compiler.reset()
    step = Stepper(shape, rows, micro, device, compiled=compiled)
    first, _ = step(), step()
    times = [step()]
    while len(times) < LEAST or (sum(times) < seconds and len(times) < MOST):
        times.append(step())
    median = statistics.median(times)
    return Timing(shape, rows, micro, compiled, median, len(times), max(0.0, first - median))


def product_rate(dtype: torch.dtype, device: torch.device, sizes: Sequence[int] = SIZES, seconds: float = 1.0) -> float:
    """Best FLOP/s of a square matrix product; sizes that would take longer than ``seconds`` are left out."""
    best = 0.0
    for n in sizes:
        if best and 2.0 * n**3 / best > seconds:
            break
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        best = max(best, 2.0 * n**3 / shortest(partial(torch.matmul, a, b), device, seconds / len(sizes)))
    return best


def memory_bandwidth(device: torch.device, elements: int = 1 << 25, seconds: float = 1.0) -> float:
    """Bytes a second of adding long fp32 arrays: two read, one written."""
    a, b, c = (torch.ones(elements, device=device) for _ in range(3))
    return 12.0 * elements / shortest(lambda: torch.add(a, b, out=c), device, seconds)


def shortest(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """The shortest of repeated runs, the first not counted."""
    work()
    times: list[float] = []
    while not times or sum(times) < seconds:
        began = now(device)
        work()
        times.append(now(device) - began)
    return min(times)


def quantities(done: Work) -> dict[str, float]:
    """A step's work by the share that it is divided by."""
    return {
        "products": done.products + done.head,
        "attention": done.attention,
        "elementwise": done.activations + done.logits,
        "bandwidth": done.weights + done.optimizer,
        "launch": done.launches,
    }


def fit(timings: Sequence[Timing], device: Device, dtype: Dtype, how: Implementation) -> Efficiency:
    """The shares under which the roofline comes nearest to timed steps, in relative error, within their bounds.

    A step's time is linear in the shares' inverses. Raises ValueError for fewer timings than shares.
    """
    from scipy.optimize import lsq_linear

    if len(timings) <= len(SHARES):
        raise ValueError(f"{len(timings)} timings cannot fix {len(SHARES) + 1} shares; time more configurations")
    peaks = dict.fromkeys(("products", "attention"), device.rate(dtype))
    peaks |= dict.fromkeys(("elementwise", "bandwidth"), device.bandwidth or 0.0)
    rows = []
    for timing in timings:
        done = quantities(work(timing.shape, Layout(rows=timing.rows), timing.micro, dtype, how))
        ideal = [done[name] / peaks[name] for name in SHARES]
        rows.append(np.array([*ideal, done["launch"] * SLOWEST_LAUNCH]) / timing.seconds)
    low = [*(1 / most for _, most in SHARES.values()), 0.0]
    high = [*(1 / least for least, _ in SHARES.values()), 1.0]
    inverses = lsq_linear(np.array(rows), np.ones(len(rows)), (low, high), method="bvls", tol=1e-14).x
    shares = {name: float(1 / inverse) for name, inverse in zip(SHARES, inverses, strict=False)}
    return Efficiency(**shares, launch=float(inverses[-1]) * SLOWEST_LAUNCH, implementation=how)


def measured_device(device: torch.device, seconds: float) -> Device:
    """The device as the catalogue would have it, each number measured here in about ``seconds``."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name, memory = properties.name, properties.total_memory
    else:
        name, memory = processor_name(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    fp32, bf16 = (product_rate(dtype, device, seconds=seconds) for dtype in (torch.float32, torch.bfloat16))
    bandwidth = memory_bandwidth(device, seconds=seconds)
    return Device(name, "measured here", True, memory, bandwidth, Rates(fp32=fp32, bf16=bf16), per_node=1)


def memory_in_use(device: torch.device) -> int:
    """Bytes that this process holds beside tensors on a GPU, or at most held so far on a CPU."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return int(total - free - torch.cuda.memory_reserved(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def calibrate(probes: Sequence[Probe] = PROBES, seconds: float = SECONDS, report: Report = silent) -> Machine:
    """Measure the machine that this process runs on, and fit its shares; ``seconds`` a configuration."""
    device = device_for("auto")
    compiles, _ = compile_for("always", device, 0.0)
    dtype: Dtype = "bf16" if precision_for("auto", device) == torch.bfloat16 else "fp32"
    timings: list[Timing] = []
    base_memory, ways = (
        0,
        (True, False) if compiles else (False,),
    )  # the base is that of a run, which compiles if it can
    for compiled in ways:
        for probe in probes:
            timings.append(time_steps(probe.shape, probe.rows, probe.micro, device, compiled=compiled, seconds=seconds))
            base_memory = base_memory or memory_in_use(device)
            report("timing steps", len(timings), len(probes) * len(ways))
    kind = measured_device(device, seconds)
    how = Implementation(CHUNK_ELEMENTS, SHORT if device.type == "cpu" else 0)
    eager, compiled_ = ([timing for timing in timings if timing.compiled == way] for way in (False, True))
    return Machine(
        device=kind,
        dtype=dtype,
        eager=fit(eager, kind, dtype, how),
        compiled=fit(compiled_, kind, dtype, how) if compiles else None,
        compile_seconds=max((timing.first for timing in compiled_), default=0.0),
        base_memory=base_memory,
        processor=processor_name(),
        cores=len(processors()),
        threads=torch.get_num_threads(),
        torch=torch_version(),
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        timings=tuple(timings),
    )


def main(arguments: Sequence[str]) -> None:
    """Measure and write to the path given."""
    follow_parent()
    try:
        with console() as report:
            found = calibrate(report=report)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    found.save(Path(arguments[0]) if arguments else None)
    print(found)


if __name__ == "__main__":
    main(sys.argv[1:])
