"""What a plan may be trained on: a device of the catalogue or this machine, how many, and how fast they really are.

A cluster is taken to train as Llama 3 was, in bf16 with fp32 masters, sharded and fused; this machine trains as
``isoflop train`` does, at the speed it was measured to have. Instant. Left out: mixed kinds of devices.
"""

from __future__ import annotations

from dataclasses import dataclass

from isoflop.planning.duration import Budget
from isoflop.planning.efficiency import GPU, Efficiency
from isoflop.planning.hardware import Device, Dtype, device
from isoflop.planning.layout import Layout
from isoflop.planning.machine import Machine
from isoflop.planning.memory import BF16, FULL, MIXED, Engine, Numerics, TrainingMemory, training_memory
from isoflop.planning.shape import Shape
from isoflop.planning.throughput import StepTime, step_time

CLUSTER_FROM = 1e18
"""FLOPs from which a plan that names no device is priced on a GPU: a day of two CPU cores is some 1e16."""
USUAL_DEVICE = "H100"
PER_NODE = 8  # devices that share a link, where the catalogue leaves it to the builder


@dataclass(frozen=True)
class Resources:
    """A kind of device and how many; ``devices`` is None where the plan is to say, ``device`` where nothing is known.

    ``local`` is this machine's measurement, where it is what trains; its processes only share batches.
    """

    device: Device | None
    devices: int | None
    efficiency: Efficiency
    dtype: Dtype = "bf16"
    local: Machine | None = None

    @classmethod
    def of(cls, budget: Budget | None, name: str | None, devices: int | None, here: Machine | None) -> Resources:
        """The resources that a budget names, unless a device or a number of them is given; ``here`` if it is meant.

        ``budget`` is None for a time on this machine. Raises ValueError where this machine is meant and not measured.
        """
        if devices is not None and devices < 1:
            raise ValueError(f"{devices} devices train nothing; give at least 1")
        text = name or (budget.device if budget else "here")
        if text is None and budget is not None:
            text = USUAL_DEVICE if budget.flops >= CLUSTER_FROM else "here" if here else None
        if text is None:
            return cls(None, None, GPU)
        if text == "here":
            if here is None:
                raise ValueError("this machine was not measured; run isoflop plan --calibrate once")
            if devices not in (None, here.ranks):
                raise ValueError(f"this machine trains in {here.ranks} processes, not {devices}; leave --devices out")
            return cls(here.device, here.ranks, here.efficiency(), here.dtype, here)
        count = devices or (budget.devices if budget and name is None else None)
        kind = device(text)
        kind.rate()
        if kind.bandwidth is None or kind.memory is None:
            raise ValueError(f"memory and bandwidth of {kind.name} are not known, so nothing can be planned for it")
        return cls(kind, count, GPU)

    @property
    def how(self) -> str:
        """Where the speed is from."""
        if self.local is None:
            return "predicted from efficiencies that published runs had"
        return f"this machine, as measured on {self.local.measured[:10]}"

    @property
    def per_node(self) -> int:
        """Devices that may share a layer."""
        return 1 if self.device is None or self.local else self.device.per_node or PER_NODE

    @property
    def start_seconds(self) -> float:
        """What a run takes before its first step."""
        return self.local.compile_seconds if self.local else 0.0

    @property
    def numerics(self) -> Numerics:
        """What is kept of a parameter: here as the trainer does it, elsewhere as Llama 3 was trained."""
        if self.local is None:
            return MIXED
        return BF16 if self.dtype == "bf16" else FULL

    @property
    def state_bytes(self) -> int:
        """Bytes of a parameter's weights, gradient and moments."""
        return self.numerics.weights + self.numerics.gradients + self.numerics.optimizer

    def at_least(self, shape: Shape, layout: Layout) -> float:
        """Bytes that weights and moments alone take of the fullest device, at the least: a bound that costs nothing."""
        weights = self.numerics.weights / (layout.replicas if layout.sharding == "weights" else 1)
        moments = self.numerics.optimizer / (1 if layout.sharding == "none" else layout.replicas)
        return (weights + moments) * shape.total / (layout.tensor * layout.pipeline)

    def memory(self, shape: Shape, layout: Layout) -> TrainingMemory:
        """Memory of the fullest device."""
        if self.local is None:
            return training_memory(shape, layout, numerics=self.numerics, engine=Engine(device="cuda"))
        engine = Engine(compiled=self.local.compiled is not None, device="cpu")
        return training_memory(shape, layout, numerics=self.numerics, engine=engine, base=self.local.base_memory)

    def step(self, shape: Shape, layout: Layout, batch: int) -> StepTime:
        """Time of one step."""
        assert self.device is not None
        return step_time(shape, layout, self.device, batch_tokens=batch, efficiency=self.efficiency, dtype=self.dtype)
