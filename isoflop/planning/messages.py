"""What devices say to each other in one training step, and how long it takes.

Ranks are numbered as Llama 3's were: tensor parallelism innermost, then context, pipeline and data parallelism (arXiv
2407.21783, section 3.3.2), so a group's neighbours are a stride apart. A ring's pace is that of the link if its ranks
share a node, else of the network ports of all its ranks on a node together, as NCCL uses them. A collective of a group
of g passes (g − 1)/g of its data through every rank. Left out: latency, congestion, switches that add up on the way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from isoflop.planning.efficiency import Efficiency
from isoflop.planning.hardware import Device
from isoflop.planning.layout import Layout
from isoflop.planning.shape import Shape

GRADIENT_BYTES = 4
"""Gradients are added up in fp32, within a rank and between ranks (arXiv 2407.21783, section 3.3.2)."""


@dataclass(frozen=True)
class Messages:
    """Seconds of one step's messages on one device, alone on its links: by kind of parallelism."""

    tensor: float
    context: float
    pipeline: float
    data: float


def messages(shape: Shape, layout: Layout, device: Device, micro: int, efficiency: Efficiency, size: int) -> Messages:
    """Time the messages of ``micro`` micro-batches with activations of ``size`` bytes.

    Raises ValueError where the device's link or network is needed and not known.
    """
    t, c, p, d = layout.tensor, layout.context, layout.pipeline, layout.data
    layers = micro * layout.layers_of(shape)
    tokens = layout.rows * shape.context // c
    stream = tokens * shape.width * size
    keys = 2 * tokens * shape.kv_width // t * size

    def seconds(sent: float, *axes: tuple[int, int]) -> float:
        group = math.prod(degree for degree, _ in axes)
        return 0.0 if group == 1 else sent * (group - 1) / group / pace(device, efficiency, *axes)

    return Messages(
        # All-gather and reduce-scatter around attention and FFN, forward and backward (Korthikanti et al. 2022).
        tensor=seconds(8 * layers * stream, (t, 1)),
        # All-gather of keys and values, again in the backward pass, and reduce-scatter of their gradients in fp32.
        context=seconds((2 + GRADIENT_BYTES / size) * layers * keys * c, (c, t)),
        # Every layer's input and its gradient from stage to stage: a ring, interleaved a layer at a time.
        pipeline=0.0 if p == 1 else 2 * layers * stream / t / pace(device, efficiency, (p, t * c)),
        data=seconds(replicated_bytes(shape, layout, micro, size), (c, t), (d, t * c * p)),
    )


def replicated_bytes(shape: Shape, layout: Layout, micro: int, size: int) -> float:
    """Bytes that ranks with the same weights pass through a ring: gradients summed, shards of weights gathered.

    Unsharded gradients are reduced and gathered once a step; a sharded optimiser gathers new weights instead; sharded
    gradients are reduced in every micro-batch; sharded weights are gathered forward and backward in each as well.
    """
    each = {
        "none": 2 * GRADIENT_BYTES,
        "optimizer": GRADIENT_BYTES + size,
        "gradients": micro * GRADIENT_BYTES + size,
        "weights": micro * (GRADIENT_BYTES + 2 * size),
    }
    return each[layout.sharding] * shape.total / (layout.tensor * layout.pipeline)


def pace(device: Device, efficiency: Efficiency, *axes: tuple[int, int]) -> float:
    """Bytes a second, each way, of a ring over axes of (degree, stride): the link, or the network where a node ends."""
    group, together = 1, 1
    for degree, stride in axes:
        group *= degree
        together *= min(degree, max(1, (device.per_node or degree * stride) // stride))
    link = efficiency.link * known(device, "link") if together > 1 else math.inf
    if together == group:
        return link
    return min(link, together * efficiency.network * known(device, "network"))


def known(device: Device, what: str) -> float:
    """A device's link or network in bytes a second. ValueError where none is known."""
    speed: float | None = getattr(device, what)
    if speed is None:
        raise ValueError(f"no speed is known of {device.name}'s {what}, which this layout needs; describe the device")
    return speed
