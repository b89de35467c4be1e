"""What was measured of this machine once, so that plans can say how long a run takes here.

``training/calibrate.py`` measures and fits; this module remembers the result under the user's cache folder and gives it
back, unless processor, cores or torch have changed since, which it says. Knows no torch. Left out: more than one
machine in a file, other work that goes on beside a run, heat.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from isoflop.config import from_dict
from isoflop.files import write_json
from isoflop.planning.efficiency import Efficiency
from isoflop.planning.hardware import Device, Dtype
from isoflop.planning.layout import Layout
from isoflop.planning.shape import Shape
from isoflop.planning.throughput import StepTime, step_time
from isoflop.processors import processors

AGAIN = "measure it again with: isoflop plan --calibrate"


@dataclass(frozen=True)
class Timing:
    """Steps of one configuration: its median in seconds, of how many, and what the first one took longer (compiling).

    A step is ``micro`` micro-batches of ``rows`` sequences on each of ``ranks`` processes.
    """

    shape: Shape
    rows: int
    micro: int
    ranks: int
    compiled: bool
    seconds: float
    steps: int
    first: float

    @property
    def batch_tokens(self) -> int:
        """Tokens in a step."""
        return self.ranks * self.micro * self.rows * self.shape.context


@dataclass(frozen=True)
class Machine:
    """A machine as a device, the shares of it that training reaches, and how that was measured.

    Attributes:
        device: best matrix-product rates, memory bandwidth and memory, measured.
        dtype: the type that training multiplies in here.
        eager: shares reached without compiling.
        compiled: shares reached with compiled blocks; None where nothing compiles.
        compile_seconds: what compiling one configuration adds to a run; 0 where nothing compiles.
        base_memory: bytes of a process that has torch loaded and has trained a small step, compiled where it can be.
        processor: name of the CPU, ``cores`` how many of it may be used.
        ranks: processes that shared the steps; a CPU's ``device`` is then one processor, while the others are as busy.
        torch: version that was measured.
        measured: date and time, ISO 8601.
        timings: the steps that the shares were fitted to.
    """

    device: Device
    dtype: Dtype
    eager: Efficiency
    compiled: Efficiency | None
    compile_seconds: float
    base_memory: int
    processor: str
    cores: int
    ranks: int
    torch: str
    measured: str
    timings: tuple[Timing, ...] = ()

    def __str__(self) -> str:
        rates = {name: rate for name, rate in vars(self.device.rates).items() if rate is not None}
        peaks = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {name}" for name, rate in rates.items())
        lines = [
            f"{self.device.name} on {self.processor}: {self.cores} cores, processes that share a batch {self.ranks}, "
            f"torch {self.torch}, measured {self.measured[:10]}",
            f"best products {peaks}; memory {(self.device.bandwidth or 0) / 1e9:,.3g} GB/s; trains in {self.dtype}",
            f"a process ready to train holds {self.base_memory / 1e6:,.0f} MB",
            f"eager     {self.eager}{self._met(compiled=False)}",
        ]
        if self.compiled is not None:
            lines.append(
                f"compiled  {self.compiled}{self._met(compiled=True)}; {self.compile_seconds:.0f} s to compile a shape"
            )
        return "\n".join(lines)

    def efficiency(self, compiled: bool | None = None) -> Efficiency:
        """Shares with or without compiling; by default compiled where that is possible.

        Raises ValueError where compiled steps are asked for and nothing compiles.
        """
        if self.compiled is None:
            if compiled:
                raise ValueError(f"nothing compiles on {self.processor}: install a C++ compiler and {AGAIN}")
            return self.eager
        return self.eager if compiled is False else self.compiled

    def step_time(
        self, shape: Shape, *, batch_tokens: int, micro_tokens: int = 1024, compiled: bool | None = None
    ) -> StepTime:
        """One step here, accumulated from micro-batches of about ``micro_tokens`` as ``isoflop train`` does.

        Raises ValueError where the batch does not cut into whole micro-batches.
        """
        ranks = self.ranks_for(batch_tokens // shape.context)
        rows = max(1, min(micro_tokens, batch_tokens // ranks) // shape.context)
        return step_time(
            shape,
            Layout(data=ranks, rows=rows),
            self.device,
            batch_tokens=batch_tokens,
            efficiency=self.efficiency(compiled),
            dtype=self.dtype,
        )

    def ranks_for(self, sequences: int) -> int:
        """Processes that share batches of so many sequences, as ``isoflop train`` starts them: a power of two."""
        return min(self.ranks, 1 << (max(1, sequences).bit_length() - 1))

    def predict(self, timing: Timing) -> StepTime:
        """The roofline's answer to steps that were timed."""
        return self.step_time(
            timing.shape,
            batch_tokens=timing.batch_tokens,
            micro_tokens=timing.rows * timing.shape.context,
            compiled=timing.compiled,
        )

    def _met(self, *, compiled: bool) -> str:
        """How well the shares meet the steps that they were fitted to: badly where other work kept the machine busy."""
        timings = [timing for timing in self.timings if timing.compiled == compiled]
        errors = [abs(self.predict(timing).seconds / timing.seconds - 1) for timing in timings]
        return f"; timed steps are met within {max(errors):.0%}" if errors else ""

    def flops_per_second(
        self, shape: Shape, *, batch_tokens: int, micro_tokens: int = 1024, compiled: bool | None = None
    ) -> float:
        """FLOP/s as budgets count them (6·N·D, N = ``matmul``) at which this machine trains a shape."""
        step = self.step_time(shape, batch_tokens=batch_tokens, micro_tokens=micro_tokens, compiled=compiled)
        return 6.0 * shape.matmul * step.tokens_per_second

    def outdated(self) -> str | None:
        """What has changed on this machine since it was measured, as a sentence, or None."""
        then = (self.processor, self.cores, self.torch)
        now = (processor_name(), len(processors()), torch_version())
        words = ("processor", "number of cores", "torch")
        changed = [f"{what} was {a} and is {b}" for what, a, b in zip(words, then, now, strict=True) if a != b]
        if not changed:
            return None
        return f"this machine is not the one measured on {self.measured[:10]}: {'; '.join(changed)}; {AGAIN}"

    def save(self, path: Path | None = None) -> Path:
        """Write the measurement as JSON, by default where :func:`machine` looks; returns the path."""
        path = remembered() if path is None else path
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.to_json())
        return path

    def to_json(self) -> dict[str, Any]:
        """The measurement as plain values."""
        return asdict(self)

    @classmethod
    def load(cls, path: Path) -> Machine:
        """Read a measurement. Raises ValueError where the file is missing or is none, saying what to do."""
        try:
            return from_dict(cls, json.loads(path.read_text(encoding="utf-8")), path.name)
        except FileNotFoundError:
            raise ValueError(f"there is no measurement of a machine at {path}; {AGAIN}") from None
        except ValueError as error:
            raise ValueError(f"{path} is no measurement of a machine ({error}); {AGAIN}") from None


def machine(path: Path | None = None) -> Machine | None:
    """The remembered measurement of this machine, or None if there is none.

    Raises ValueError, naming what changed, where it was made of another processor, number of cores or torch.
    """
    path = remembered() if path is None else path
    if not path.exists():
        return None
    found = Machine.load(path)
    if (reason := found.outdated()) is not None:
        raise ValueError(reason)
    return found


def remembered() -> Path:
    """Where a measurement is kept: ``$XDG_CACHE_HOME``, or ``~/.cache``, then ``isoflop/machine.json``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "isoflop" / "machine.json"


def processor_name(path: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's name as the system gives it, with family and model, because clouds call different ones the same."""
    try:
        first = path.read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        first = ""
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    if "model name" not in facts:
        return platform.processor() or platform.machine()
    kind = [f"{key.removeprefix('cpu ')} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    return ", ".join([facts["model name"], *kind])


def torch_version() -> str:
    """The installed torch, asked without loading it; "none" where there is none."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return "none"
