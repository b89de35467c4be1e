"""How long a training step takes: what each device does and says in it, over the rates that hardware reaches.

A roofline of the sum kind: a part of a step is a quantity (FLOPs, bytes, messages, kernels) over a peak times the share
of it that is reached, and the parts add up. Quantities are counted by :mod:`isoflop.planning.work` and
:mod:`isoflop.planning.messages`, shares stated in :mod:`isoflop.planning.efficiency`. The sum is linear in the shares'
inverses, so that a machine's own follow from a few timed steps (``training/calibrate.py``). Small products are slower
because their operands' traffic is counted beside their FLOPs. Some 40 µs a call.

A pipeline is taken to be interleaved a layer at a time, as Llama 3's was (arXiv 2407.21783, section 3.3.2), so its
bubble is (stages − 1)/(layers on a stage · micro-batches). Left out: stragglers, restarts, limits of power and heat,
products that do not fill their tiles, hiding of tensor- and context-parallel messages.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from isoflop.planning.efficiency import GPU, Efficiency
from isoflop.planning.hardware import Device, Dtype
from isoflop.planning.layout import Layout
from isoflop.planning.messages import known, messages
from isoflop.planning.shape import Shape
from isoflop.planning.work import ELEMENT_BYTES, work


@dataclass(frozen=True)
class StepTime:
    """One step's parts in seconds on the busiest device, which add up to ``seconds``.

    ``head`` includes the loss; ``elementwise`` is the traffic of activations, ``weights`` that of casting weights and
    adding up gradients; ``data`` the messages of data parallelism and of the pipeline that nothing hides, ``pipeline``
    the bubble. ``flops`` are the model's, all devices together; ``rate`` is a device's peak in FLOP/s.
    """

    products: float
    attention: float
    head: float
    recomputation: float
    elementwise: float
    weights: float
    optimizer: float
    tensor: float
    context: float
    data: float
    pipeline: float
    launches: float
    tokens: int
    devices: int
    flops: float
    rate: float

    @property
    def parts(self) -> dict[str, float]:
        """The parts in seconds, by name."""
        return {name: getattr(self, name) for names in LIMITS.values() for name in names}

    @property
    def seconds(self) -> float:
        """The step's wall time."""
        return sum(self.parts.values())

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second of all devices together."""
        return self.tokens / self.seconds

    @property
    def per_device(self) -> float:
        """Tokens a second and device."""
        return self.tokens_per_second / self.devices

    @property
    def mfu(self) -> float:
        """Share of the devices' peak that the model's own FLOPs come to; recomputation does not count."""
        return self.flops / (self.seconds * self.devices * self.rate)

    @property
    def bound(self) -> str:
        """What takes most of the time: compute, memory, communication, pipeline or launches."""
        parts = self.parts
        return max(LIMITS, key=lambda word: sum(parts[name] for name in LIMITS[word]))

    def __str__(self) -> str:
        longest = sorted(self.parts.items(), key=lambda part: -part[1])
        shares = [f"{name} {part / self.seconds:.0%}" for name, part in longest if part > 0.005 * self.seconds]
        return (
            f"{self.seconds:.4g} s a step, {self.per_device:,.0f} tokens/s a device, {self.mfu:.1%} MFU, "
            f"bound by {self.bound}: {', '.join(shares)}"
        )

    def to_json(self) -> dict[str, Any]:
        """The step as plain values, with what follows from its parts."""
        names = ("seconds", "tokens_per_second", "per_device", "mfu", "bound")
        return asdict(self) | {name: getattr(self, name) for name in names}


LIMITS = {
    "compute": ("products", "attention", "head", "recomputation"),
    "memory": ("elementwise", "weights", "optimizer"),
    "communication": ("tensor", "context", "data"),
    "pipeline": ("pipeline",),
    "launches": ("launches",),
}
"""The parts of a step, by what limits them."""


def step_time(
    shape: Shape,
    layout: Layout,
    device: Device,
    *,
    batch_tokens: int,
    efficiency: Efficiency = GPU,
    dtype: Dtype = "bf16",
) -> StepTime:
    """Predict one training step of ``batch_tokens`` tokens over all devices, with products in ``dtype``.

    Raises ValueError where the shape cannot be laid out so, the batch does not cut into whole micro-batches, or a rate,
    bandwidth or link of the device is needed and not known.
    """
    if (objection := layout.objection(shape)) is not None:
        raise ValueError(f"this model cannot be laid out as {layout}: {objection}")
    micro = micro_batches(shape, layout, batch_tokens)
    done = work(shape, layout, micro, dtype, efficiency.implementation)
    said = messages(shape, layout, device, micro, efficiency, ELEMENT_BYTES[dtype])
    rate, bandwidth = device.rate(dtype), known(device, "bandwidth")
    products = done.products / (efficiency.products * rate)
    attention = done.attention / (efficiency.attention * rate)
    head = done.head / (efficiency.products * rate) + done.logits / (efficiency.elementwise * bandwidth)
    elementwise = done.activations / (efficiency.elementwise * bandwidth)
    weights = done.weights / (efficiency.bandwidth * bandwidth)
    launches = done.launches * efficiency.launch
    again = 0.0
    if layout.recompute == "blocks":  # a forward pass: a third of the arithmetic, half of the messages
        again = (products + attention + elementwise) / 3 + said.tensor / 2 + said.context / 3
    busy = products + attention + head + again + elementwise + weights + said.tensor + said.context + launches
    return StepTime(
        products=products,
        attention=attention,
        head=head,
        recomputation=again,
        elementwise=elementwise,
        weights=weights,
        optimizer=done.optimizer / (efficiency.bandwidth * bandwidth),
        tensor=said.tensor,
        context=said.context,
        data=max(0.0, said.data + said.pipeline - efficiency.hidden * busy),
        pipeline=busy * (layout.pipeline - 1) / (layout.layers_of(shape) * micro),
        launches=launches,
        tokens=batch_tokens,
        devices=layout.devices,
        flops=float(shape.flops_per_token) * batch_tokens,
        rate=rate,
    )


def micro_batches(shape: Shape, layout: Layout, batch_tokens: int) -> int:
    """Micro-batches that a data-parallel group accumulates in a step. ValueError where the batch does not cut."""
    piece = layout.data * layout.rows * shape.context
    if batch_tokens < 1 or batch_tokens % piece:
        raise ValueError(
            f"a batch of {batch_tokens:,} tokens does not cut into micro-batches of {layout.rows} × {shape.context:,} "
            f"tokens for {layout.data} data-parallel groups; make it a multiple of {piece:,}"
        )
    return batch_tokens // piece
