"""Measure this machine: best products, memory bandwidth and a handful of real training steps, and fit the roofline.

``planning.throughput`` says a step's time as a sum of quantities over peaks times shares. Here the peaks are measured
alone, steps of well-spread small configurations are timed as ``training/loop.py`` does them, and the shares follow by
least squares of relative errors within bounds. On two AVX2 cores that took 4 min 10 s, half of it compiling; less
where bf16 is native. Run as ``python -m isoflop.training.calibrate [OUT]``.

A CPU is measured as ``isoflop train`` uses it, by a pinned, one-thread process per processor all at once, so that what
they take from each other is in the figures; a device is then one processor, and adding up gradients its link. Other
work on the machine spoils the timings: run it alone. With a GPU the same code measures one GPU; that was never run.
Left out: links between GPUs; reading of data, which costs little.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import product
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
from isoflop.planning.machine import Machine, Timing, processor_name, remembered, torch_version
from isoflop.planning.messages import GRADIENT_BYTES, messages
from isoflop.planning.shape import Shape
from isoflop.planning.work import ELEMENT_BYTES, Implementation, Work, work
from isoflop.processors import processors, ranks_for
from isoflop.progress import Report, console, silent
from isoflop.training.config import OptimizerConfig
from isoflop.training.hardware import compile_for, device_for, peak_resident, precision_for
from isoflop.training.launch import together
from isoflop.training.loss import CHUNK_ELEMENTS, cross_entropy
from isoflop.training.optimizer import build_optimizer
from isoflop.training.ranks import Ranks, gradients
from isoflop.training.trainer import ALONE

SIZES = (512, 1024, 2048, 4096)
"""Widths of the square products among which the best counts."""
SECONDS = 1.5
"""Timed steps of one configuration, beside warming up."""
LEAST, MOST = 3, 50
"""Steps of one configuration."""
SHARES = {"products": (0.05, 1.0), "attention": (0.005, 1.0), "elementwise": (0.02, 50.0), "bandwidth": (0.05, 1.0)}
"""What a share may be: at most all of what was measured, but for activations, which caches serve."""
LINK = Efficiency(link=1.0, hidden=0.0)
"""Gradients are added up at the rate that was measured for just that, behind nothing."""
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
    """A model and its optimiser, and the training step of ``training/loop.py`` on random tokens.

    Every rank takes ``micro`` micro-batches of ``rows`` sequences.
    """

    def __init__(
        self, shape: Shape, rows: int, micro: int, device: torch.device, ranks: Ranks = ALONE, *, compiled: bool
    ) -> None:
        self.device, self.ranks, self.compiled = device, ranks, compiled
        self.model = Llama(shape, compute=precision_for("auto", device), compiled=compiled).initialise(0).to(device)
        self.optimizer = build_optimizer(self.model, OptimizerConfig())
        generator = torch.Generator().manual_seed(0)
        self.batch = torch.randint(shape.vocab, (micro, rows, shape.context + 1), generator=generator).to(device)

    def __call__(self) -> float:
        """Take one step; returns its wall time in seconds, the mean of the ranks."""
        began, size = now(self.device), self.batch[..., 1:].numel()
        for tokens in self.batch:
            hidden = self.model.hidden(tokens[:, :-1])
            loss = cross_entropy(hidden, self.model.head, tokens[:, 1:], fast=self.compiled) / size
            loss.backward()  # type: ignore[no-untyped-call]
        self.ranks.add(*gradients(self.model))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), OptimizerConfig.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        seconds = torch.tensor(now(self.device) - began, device=self.device)
        self.ranks.add(seconds)  # so that all ranks take the same number of steps
        return float(seconds) / self.ranks.count


def now(device: torch.device) -> float:
    """The time once the device is done, in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def time_steps(
    shape: Shape,
    rows: int,
    micro: int,
    device: torch.device,
    ranks: Ranks = ALONE,
    *,
    compiled: bool,
    seconds: float = SECONDS,
) -> Timing:
    """Time steps of a configuration: one that compiles, one that warms up, then as many as the time allows.

    Graphs are forgotten before, so that every configuration compiles and none is counted against torch's limit of them.
    """
    if compiled:
        torch.compiler.reset()
    step = Stepper(shape, rows, micro, device, ranks, compiled=compiled)
    first, _ = step(), step()
    times = [step()]
    while len(times) < LEAST or (sum(times) < seconds and len(times) < MOST):
        times.append(step())
    median = statistics.median(times)
    return Timing(shape, rows, micro, ranks.count, compiled, median, len(times), max(0.0, first - median))


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


def link_rate(ranks: Ranks, elements: int = 1 << 20, seconds: float = 1.0) -> float | None:
    """Bytes a second that a rank passes on while gradients are added up; None for a rank alone.

    A ring passes 2·(ranks − 1)/ranks of the bytes through every rank (``planning.messages``).
    """
    if ranks.count == 1:
        return None
    gradients, times = torch.zeros(elements), list[float]()  # summed over the ranks, so that all stop together
    while not times or sum(times) < seconds * ranks.count:
        began = time.perf_counter()
        ranks.add(gradients)
        taken = torch.tensor(time.perf_counter() - began)
        ranks.add(taken)
        times.append(float(taken))
    return 2 * GRADIENT_BYTES * elements * (ranks.count - 1) / min(times)


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

    A step's time, less its messages, is linear in the shares' inverses. Raises ValueError for fewer timings than
    shares.
    """
    from scipy.optimize import lsq_linear

    if len(timings) <= len(SHARES):
        raise ValueError(f"{len(timings)} timings cannot fix {len(SHARES) + 1} shares; time more configurations")
    peaks = dict.fromkeys(("products", "attention"), device.rate(dtype))
    peaks |= dict.fromkeys(("elementwise", "bandwidth"), device.bandwidth or 0.0)
    rows, rest = [], []
    for timing in timings:
        layout = Layout(data=timing.ranks, rows=timing.rows)
        done = quantities(work(timing.shape, layout, timing.micro, dtype, how))
        said = messages(timing.shape, layout, device, timing.micro, LINK, ELEMENT_BYTES[dtype]).data
        ideal = [done[name] / peaks[name] for name in SHARES]
        rows.append(np.array([*ideal, done["launch"] * SLOWEST_LAUNCH]) / timing.seconds)
        rest.append(max(0.0, 1 - said / timing.seconds))
    low = [*(1 / most for _, most in SHARES.values()), 0.0]
    high = [*(1 / least for least, _ in SHARES.values()), 1.0]
    inverses = lsq_linear(np.array(rows), np.array(rest), (low, high), method="bvls", tol=1e-14).x
    shares = {name: float(1 / inverse) for name, inverse in zip(SHARES, inverses, strict=False)}
    return replace(LINK, **shares, launch=float(inverses[-1]) * SLOWEST_LAUNCH, implementation=how)


def measured_device(device: torch.device, ranks: Ranks, seconds: float) -> Device:
    """The device as the catalogue would have it, each number measured here in about ``seconds``.

    Of a CPU it is one processor, with its share of the memory.
    """
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name, memory = properties.name, properties.total_memory
    else:
        name, memory = processor_name(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // ranks.count
    fp32, bf16 = (product_rate(dtype, device, seconds=seconds) for dtype in (torch.float32, torch.bfloat16))
    bandwidth, link = memory_bandwidth(device, seconds=seconds), link_rate(ranks, seconds=seconds)
    rates = Rates(fp32=fp32, bf16=bf16)
    return Device(name, "measured here", True, memory, bandwidth, rates, link=link, per_node=ranks.count)


def memory_in_use(device: torch.device) -> int:
    """Bytes that this process holds beside tensors on a GPU, or at most held so far on a CPU."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return int(total - free - torch.cuda.memory_reserved(device))
    return peak_resident()


def calibrate(
    probes: Sequence[Probe] = PROBES, seconds: float = SECONDS, cores: int | None = None, report: Report = silent
) -> Machine:
    """Measure the machine that this process runs on, and fit its shares; ``seconds`` a configuration.

    ``cores`` are all that may be used, where this process is pinned to one of them.
    """
    device = device_for("auto")
    ranks = Ranks.join(device)
    compiles, _ = compile_for("always", device, 0.0)
    dtype: Dtype = "bf16" if precision_for("auto", device) == torch.bfloat16 else "fp32"
    timings: list[Timing] = []
    base_memory = 0
    ways = (True, False) if compiles else (False,)  # the base is that of a run, which compiles if it can
    for compiled, probe in product(ways, probes):
        timings.append(
            time_steps(probe.shape, probe.rows, probe.micro, device, ranks, compiled=compiled, seconds=seconds)
        )
        base_memory = base_memory or memory_in_use(device)
        report("timing steps", len(timings), len(probes) * len(ways))
    kind = measured_device(device, ranks, seconds)
    program = Implementation(CHUNK_ELEMENTS, SHORT if device.type == "cpu" else 0)
    eager, compiled_ = ([timing for timing in timings if timing.compiled == way] for way in (False, True))
    return Machine(
        device=kind,
        dtype=dtype,
        eager=fit(eager, kind, dtype, program),
        compiled=fit(compiled_, kind, dtype, program) if compiles else None,
        compile_seconds=max((timing.first for timing in compiled_), default=0.0),
        base_memory=base_memory,
        processor=processor_name(),
        cores=cores or len(processors()),
        ranks=ranks.count,
        torch=torch_version(),
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        timings=tuple(timings),
    )


def main(out: Path, cores: int) -> int:
    """Measure and write to ``out``; on a CPU as ranks that this process starts. Returns the exit status."""
    follow_parent()
    try:
        if (count := here()) > 1:
            again = [sys.executable, "-m", "isoflop.training.calibrate", str(out), str(cores)]
            return together(again, processors()[:count])
        leads = os.environ.get("RANK", "0") == "0"
        with console() if leads else nullcontext(silent) as report:
            found = calibrate(cores=cores, report=report)
    except KeyboardInterrupt:
        return INTERRUPTED
    if leads:
        found.save(out)
        print(found)
    return 0


def here() -> int:
    """Ranks to start: one where there is a GPU, or where this process is one of them."""
    return 1 if "WORLD_SIZE" in os.environ or device_for("auto").type == "cuda" else ranks_for(len(processors()))


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else remembered()
    sys.exit(main(path, int(sys.argv[2]) if len(sys.argv) > 2 else len(processors())))
