"""Published training speeds beside the roofline's, all with one set of efficiencies (``planning.efficiency.GPU``).

A run is ``clear`` where its shape, layout, batch and hardware are published and are what the roofline models; the
others say what was assumed. Speeds are other people's, as their tables print them. ``python benchmarks/throughput.py
--published`` prints the comparison. Left out: runs in 8 bits, nanotron's (neither shapes nor layouts were at hand).
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

from isoflop.planning.hardware import DEVICES, Device
from isoflop.planning.layout import Layout
from isoflop.planning.released import RELEASED
from isoflop.planning.shape import Shape
from isoflop.planning.throughput import StepTime, step_time

A100, A100_40, H100 = DEVICES["A100-80"], DEVICES["A100-40"], DEVICES["H100"]
H100_500W = replace(H100, name="H100 500 W, HBM2e", bandwidth=2.4e12)


@dataclass(frozen=True)
class Run:
    """A published run: ``speed`` in tokens a second and device; ``accumulated`` micro-batches make its batch."""

    name: str
    device: Device
    shape: Shape
    layout: Layout
    accumulated: int
    speed: float
    clear: bool
    source: str
    assumed: str = ""

    def predict(self) -> StepTime:
        """The roofline's answer."""
        tokens = self.layout.data * self.layout.rows * self.shape.context * self.accumulated
        return step_time(self.shape, self.layout, self.device, batch_tokens=tokens)

    @property
    def mfu(self) -> float:
        """The published speed as MFU in this project's counting: causal attention, recomputation not counted."""
        return self.speed * self.shape.flops_per_token / self.device.rate("bf16")

    @property
    def error(self) -> float:
        """Predicted speed over published, less one."""
        return self.predict().per_device / self.speed - 1


def fsdp(devices: int, rows: int, *, recompute: bool = False) -> Layout:
    """Fully sharded data parallelism."""
    return Layout(data=devices, sharding="weights", rows=rows, recompute="blocks" if recompute else "none")


def mpt(layers: int, width: int, heads: int, context: int) -> Shape:
    """An MPT: its FFN of two matrices 4 widths wide as three of the same size together."""
    return Shape(layers, width, heads, heads, 8 * width // 3, 50_368, context)


MPT_1B, MPT_3B, MPT_7B, MPT_13B = (24, 2048, 16), (32, 2560, 20), (32, 4096, 32), (40, 5120, 40)
TINY = Shape(22, 2048, 32, 4, 5632, 32_000, 2048, False)
LONG = replace(RELEASED["Llama 3.1 405B"].shape, context=131_072)
LARGEST, EIGHT, TWO_13B = (RELEASED[f"Llama {name}"].shape for name in ("3.1 405B", "3 8B", "2 13B"))
PAPER, FOUNDRY = "arXiv 2407.21783, table 4", "llm-foundry, scripts/train/benchmarking/README.md"
TITAN = "torchtitan, docs/performance.md"
UNSHARDED = "optimiser sharded; tokens from its TFLOP/s with causal attention"
SELECTIVE = "500 W cards; selective recomputation (about half of the products) as none"


def flagship(shape: Shape, layout: Layout, rows: int, teraflops: float) -> Run:
    """One stage of Llama 3 405B."""
    name = f"Llama 3 405B, {layout.devices:,} H100, context {shape.context:,}"
    return Run(name, H100, shape, layout, rows, teraflops * 1e12 / shape.flops_per_token, True, PAPER, UNSHARDED)


RUNS = (
    flagship(LARGEST, Layout(8, 1, 16, 64, "optimizer"), 32, 430),
    flagship(LARGEST, Layout(8, 1, 16, 128, "optimizer"), 16, 400),
    flagship(LONG, Layout(8, 16, 16, 8, "optimizer"), 16, 380),
    Run("MPT 1B, 64 H100", H100, mpt(*MPT_1B, 2048), fsdp(64, 20), 1, 44_402, True, FOUNDRY),
    Run("MPT 3B, 8 H100", H100, mpt(*MPT_3B, 1024), fsdp(8, 20), 6, 27_046, True, FOUNDRY),
    Run("MPT 7B, 8 H100", H100, mpt(*MPT_7B, 2048), fsdp(8, 6), 1, 10_643, True, FOUNDRY),
    Run("MPT 13B, 64 H100", H100, mpt(*MPT_13B, 2048), fsdp(64, 2), 1, 4_800, True, FOUNDRY),
    Run(
        "MPT 7B, 8 H100, 8k, recomputed", H100, mpt(*MPT_7B, 8192), fsdp(8, 8, recompute=True), 2, 6_935, True, FOUNDRY
    ),
    Run("MPT 1B, 8 A100", A100, mpt(*MPT_1B, 2048), fsdp(8, 14), 4, 20_513, True, FOUNDRY),
    Run("MPT 7B, 8 A100", A100, mpt(*MPT_7B, 2048), fsdp(8, 6), 2, 4_641, True, FOUNDRY),
    Run(
        "MPT 7B, 8 A100, 8k, recomputed", A100, mpt(*MPT_7B, 8192), fsdp(8, 8, recompute=True), 2, 3_206, True, FOUNDRY
    ),
    Run("Llama 2 13B, 64 A100", A100, TWO_13B, fsdp(64, 2), 1, 2_162, True, TITAN),
    Run("TinyLlama 1.1B, 16 A100-40", A100_40, TINY, fsdp(16, 8), 8, 24_000, True, "jzhang38/TinyLlama, README.md"),
    Run(
        "Llama 1 65B, 2,048 A100",
        A100,
        RELEASED["Llama 1 65B"].shape,
        Layout(8, 1, 1, 256, "optimizer"),
        8,
        380,
        False,
        "arXiv 2302.13971, section 2.4",
        "layout not published: tensor parallelism over 8, no recomputation",
    ),
    Run("Llama 3 8B, 8 H100, eager", H100_500W, EIGHT, fsdp(8, 2), 1, 5_762, False, TITAN, SELECTIVE),
    Run("Llama 3 8B, 8 H100, compiled", H100_500W, EIGHT, fsdp(8, 2), 1, 6_667, False, TITAN, SELECTIVE),
)


def table() -> str:
    """Every run: published and predicted speed and MFU, and the difference in speed."""
    lines = [f"{'run':<42} {'tokens/s/device':>17} {'predicted':>10} {'MFU':>6} {'predicted':>9} {'differs':>8}  bound"]
    for run in RUNS:
        step = run.predict()
        numbers = f"{run.speed:>17,.0f} {step.per_device:>10,.0f} {run.mfu:>6.1%} {step.mfu:>9.1%} {run.error:>+8.0%}"
        lines.append(f"{run.name:<42} {numbers}  {step.bound}{'' if run.clear else f'; {run.assumed}'}")
    clear = [abs(run.error) for run in RUNS if run.clear]
    lines.append(f"clear runs: median difference {statistics.median(clear):.0%}, largest {max(clear):.0%}")
    return "\n".join(lines)
