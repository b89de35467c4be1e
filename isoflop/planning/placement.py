"""Where a planned run fits: the layout over devices, its memory and speed, what it costs, and why fewer do not do.

Every layout of so many devices that divides the shape and the batch, and whose predicted memory leaves some room, is
timed by the roofline; the fastest is taken. Without a number of devices it is the fewest, doubling from one. A run
whose context grows is placed twice, at the length of most of it and at the longest. A few hundred layouts a count,
a tenth of a millisecond each. Left out: uneven pipelines, networks that get slower with size, and failures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, get_args

from isoflop.planning.duration import Cost, cost
from isoflop.planning.hardware import Device
from isoflop.planning.layout import Layout, Recompute, Sharding
from isoflop.planning.memory import TrainingMemory
from isoflop.planning.recipe import VALIDATION_TOKENS, VALIDATIONS, Recipe
from isoflop.planning.resources import Resources
from isoflop.planning.shape import Shape, human
from isoflop.planning.throughput import StepTime

ROOM = 0.92
"""Share of a device's memory that a plan may fill: allocators lose some to fragments, libraries take some."""
MOST_DEVICES = 2**17
LONG = 32_768
"""Context from which sequences are worth splitting over devices, over four times as many with every doubling of it."""
DEEPEST = 32  # pipeline stages at most
ROWS = (1, 2, 4, 8, 16)  # sequences a micro-batch


@dataclass(frozen=True)
class Job:
    """Tokens ``start`` … ``end`` of a run, whose longest sequences are of ``context``, and what they are trained on."""

    shape: Shape
    recipe: Recipe
    on: Resources
    start: int
    end: int

    @property
    def context(self) -> int:
        """The longest sequences of the stretch."""
        return self.recipe.contexts.at(self.end - 1)

    @property
    def batch(self) -> int:
        """Its largest batch."""
        return self.recipe.batch.at(self.end - 1)

    @property
    def longest(self) -> Shape:
        """The model at the longest sequences."""
        return replace(self.shape, context=self.context)

    @property
    def device(self) -> Device:
        """The kind of device."""
        assert self.on.device is not None
        return self.on.device

    def stretches(self) -> Iterator[tuple[int, int, int]]:
        """Tokens, batch and context of the parts in which neither changes."""
        marks = {self.start, *self.recipe.batch.thresholds, *self.recipe.contexts.thresholds}
        starts = sorted(mark for mark in marks if self.start <= mark < self.end)
        for start, end in zip(starts, [*starts[1:], self.end], strict=True):
            yield end - start, self.recipe.batch.at(start), self.recipe.contexts.at(start)

    def flops(self) -> float:
        """Exact training FLOPs."""
        return float(sum(tokens * self.shape.flops_per_token_at(context) for tokens, _, context in self.stretches()))

    def seconds(self, layout: Layout) -> float:
        """Wall time of its steps, each at its own batch and context, of starting the run and of its validations."""
        total = 0.0 if self.start else self.on.start_seconds + self.validation_seconds(layout)
        for tokens, batch, context in self.stretches():
            here = replace(self.shape, context=context)
            rows = max(1, min(layout.rows * self.context, batch) // context)
            piece = layout.data * rows * context
            fed = math.ceil(batch / piece) * piece  # devices that a small batch cannot feed stand idle
            total += tokens / batch * self.on.step(here, replace(layout, rows=rows), fed).seconds
        return total

    def validation_seconds(self, layout: Layout) -> float:
        """Wall time of all validations of the run: forward passes, a third of a step's work a token."""
        step = self.on.step(self.longest, layout, layout.data * layout.rows * self.context)
        return VALIDATIONS * VALIDATION_TOKENS / 3 / step.tokens_per_second

    def layouts(self, devices: int, *, frugal: bool = False) -> Iterator[Layout]:
        """Layouts of so many devices that divide the shape and the batch; only the ones least demanding if frugal.

        Replicas share the optimiser at least: that sends no more than sending all gradients to all.
        """
        shape, splits = self.longest, [1] if self.on.local else [1 << i for i in range(devices.bit_length())]
        shardings: tuple[Sharding, ...] = ("weights",) if frugal else ("optimizer", "weights")
        recomputes: tuple[Recompute, ...] = ("blocks",) if frugal else get_args(Recompute)
        tensors = [t for t in splits if t <= self.on.per_node]
        pipelines = [p for p in splits if p <= DEEPEST]
        contexts = [c for c in splits if c == 1 or shape.context >= LONG * c // 4 >= LONG // 2]
        for tensor, pipeline, context in product(tensors, pipelines, contexts):
            data, rest = divmod(devices, tensor * pipeline * context)
            if rest or not data:
                continue
            shared = ("none",) if self.on.local or data * context == 1 else shardings
            for rows, sharding, recompute in product(ROWS[:1] if frugal else ROWS, shared, recomputes):
                micro, uneven = divmod(self.batch, data * rows * shape.context)
                layout = Layout(tensor, context, pipeline, data, sharding, recompute, rows)
                if not (uneven or micro < pipeline or layout.objection(shape)):
                    yield layout

    def fastest(self, devices: int) -> tuple[Layout, TrainingMemory, StepTime] | None:
        """The layout of so many devices that trains fastest among those that fit; None where none does."""
        most = ROOM * (self.device.memory or math.inf)
        hopeful = (layout for layout in self.layouts(devices) if self.on.at_least(self.longest, layout) <= most)
        timed = sorted(((self.seconds(layout), layout) for layout in hopeful), key=lambda pair: pair[0])
        for _, layout in timed:
            memory = self.on.memory(self.longest, layout)
            if fits(memory, self.device):
                return layout, memory, self.on.step(self.longest, layout, self.batch)
        return None

    def leanest(self, devices: int) -> TrainingMemory | None:
        """The least memory that a device needs when there are so many; None where no layout divides."""
        memories = (self.on.memory(self.longest, layout) for layout in self.layouts(devices, frugal=True))
        return min(memories, key=lambda memory: memory.total, default=None)

    def fewest(self) -> int:
        """The fewest devices, doubling from one, on which it fits. Raises ValueError where none are enough."""
        count, states = 1, self.on.state_bytes * self.shape.total
        while states / count > ROOM * (self.device.memory or math.inf):
            count *= 2  # not even weights, gradients and moments would fit, all of them sharded
        while count <= MOST_DEVICES:
            memory = self.leanest(count)
            if memory is not None and fits(memory, self.device):
                return count
            count *= 2
        raise ValueError(
            f"{human(self.shape.total)} parameters at a context of {self.context:,} fit on no number of "
            f"{self.device.name} up to {MOST_DEVICES:,}; plan a smaller model or a shorter context"
        )

    def why_not(self, devices: int) -> str | None:
        """A sentence about devices that are too few or that nothing divides over; None where they would do."""
        memory = self.leanest(devices)
        if memory is None:
            return f"{devices:,} {self.device.name} divide neither the {self.shape.layers} layers nor the batch evenly"
        if fits(memory, self.device):
            return None
        have = gigabytes(ROOM * (self.device.memory or 0))
        return f"on {devices:,} {self.device.name} one would need {told(memory)}, and {have} can be used"


@dataclass(frozen=True)
class Placement:
    """A stretch of a run on hardware: layout, memory of the fullest device, a step at the largest batch, and the cost.

    ``smaller`` says why half of the devices would not do, None where they would; ``how`` where the speed is from.
    """

    context: int
    device: Device
    layout: Layout
    memory: TrainingMemory
    step: StepTime
    cost: Cost
    how: str
    smaller: str | None

    @property
    def room(self) -> str:
        """The memory used, of what there is, with its largest parts."""
        return f"{told(self.memory)} of {gigabytes(self.device.memory or 0)} a device"

    @property
    def settings(self) -> dict[str, Any]:
        """The keys of ``isoflop train``'s config that follow."""
        return {"micro_tokens": self.layout.rows * self.context, "recompute": self.layout.recompute}

    def to_json(self) -> dict[str, Any]:
        """The placement as plain values."""
        return {
            "context": self.context,
            "device": self.device.name,
            "layout": self.layout.to_json(),
            "memory": self.memory.to_json(),
            "step": self.step.to_json(),
            "cost": self.cost.to_json(),
            "how": self.how,
            "smaller": self.smaller,
        }


def place(
    shape: Shape, recipe: Recipe, on: Resources, mfu: float | None = None, price: float | None = None
) -> tuple[Placement, ...]:
    """Place a run: once, or twice where its context grows; nothing where the resources name no device.

    Raises ValueError where it fits on no layout of the devices asked for, saying what would do.
    """
    if on.device is None:
        return ()
    jobs = list(phases(shape, recipe, on))
    count = on.devices or max(job.fewest() for job in jobs)
    return tuple(placed(job, count, mfu, price) for job in jobs)


def phases(shape: Shape, recipe: Recipe, on: Resources) -> Iterator[Job]:
    """The stretch at the context of most tokens, and the one in which it grows, if it does."""
    grown = recipe.contexts.thresholds
    first = min([*grown, recipe.tokens])
    yield Job(shape, recipe, on, 0, first)
    if first < recipe.tokens:
        yield Job(shape, recipe, on, first, recipe.tokens)


def placed(job: Job, devices: int, mfu: float | None, price: float | None) -> Placement:
    """The fastest layout of a stretch over so many devices, and what it costs."""
    found = job.fastest(devices)
    if found is None:
        raise ValueError(f"{job.why_not(devices) or 'no layout divides the batch'}; {job.fewest():,} would do")
    layout, memory, step = found
    flops = job.flops()
    reached = mfu or flops / (job.seconds(layout) * devices * step.rate)
    taken = cost(flops, job.device, devices, mfu=reached, dtype=job.on.dtype, price=price)
    fewer = job.why_not(devices // 2) if devices % 2 == 0 else None
    return Placement(job.context, job.device, layout, memory, step, taken, job.on.how, fewer)


def whole(placements: tuple[Placement, ...]) -> Cost | None:
    """The cost of a whole run; None without hardware."""
    if not placements:
        return None
    costs = [p.cost for p in placements]
    flops, seconds, hours = (sum(getattr(c, name) for c in costs) for name in ("flops", "seconds", "device_hours"))
    kwh = None if costs[0].kwh is None else sum(c.kwh or 0.0 for c in costs)
    dollars = None if costs[0].dollars is None else sum(c.dollars or 0.0 for c in costs)
    mfu = sum(c.mfu * c.seconds for c in costs) / seconds
    return Cost(flops, costs[0].device, costs[0].devices, mfu, seconds, hours, kwh, dollars)


def fits(memory: TrainingMemory, device: Device) -> bool:
    """Whether so much memory leaves room on a device; True where the device's memory is not known."""
    return device.memory is None or memory.total <= ROOM * device.memory


def told(memory: TrainingMemory) -> str:
    """A total with its largest parts."""
    parts = sorted(memory.parts.items(), key=lambda part: -part[1])
    named = ", ".join(f"{name} {gigabytes(part)}" for name, part in parts if part > 0.02 * memory.total)
    return f"{gigabytes(memory.total)} ({named})"


def gigabytes(size: float) -> str:
    """Bytes as people say them."""
    return f"{size / 1e9:.3g} GB" if size >= 1e8 else f"{size / 1e6:.3g} MB"
