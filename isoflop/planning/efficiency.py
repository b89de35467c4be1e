"""Which shares of its peaks a device reaches in training, each with its source.

One set of defaults, for GPUs; ``training/calibrate.py`` measures a machine's own. Left out: a set per generation. In
the same code A100s reach 60 to 64% MFU and H100s 40 to 46% (llm-foundry's benchmarks of models of 1B to 13B), because
an H100 at full work is held back by its power; one set lies between them.
"""

from __future__ import annotations

from dataclasses import dataclass

from isoflop.planning.work import FUSED, Implementation


@dataclass(frozen=True)
class Efficiency:
    """Shares of a device's peaks that training reaches, what a kernel's launch costs, and by which program.

    ``elementwise`` may exceed one where caches hold what is counted as memory traffic, as on a CPU.

    Attributes:
        products: matrix products of long operands, of the peak rate.
        attention: causal attention's model FLOPs, of the peak rate. FlashAttention-2 reaches 0.35 of an H100 and 0.6
            of an A100, FlashAttention-3 0.6 of an H100 (arXiv 2307.08691, 2407.08608); scores computed again in the
            backward pass are not counted and cost a seventh.
        elementwise: of memory bandwidth, activations through norms, rotary embeddings, SwiGLU and into products.
        bandwidth: of memory bandwidth, long arrays: weights, gradients, moments.
        link: of the link inside a node, by the collectives of NCCL at large messages.
        network: of the network between nodes, the same.
        hidden: of the time that compute takes, behind which gradients, sharded weights and pipeline messages hide.
        launch: seconds that a kernel costs beside its work.
        implementation: where the training program is not the usual fused one.
    """

    products: float = 0.66
    attention: float = 0.40
    elementwise: float = 0.50
    bandwidth: float = 0.80
    link: float = 0.75
    network: float = 0.75
    hidden: float = 0.75
    launch: float = 3e-6
    implementation: Implementation = FUSED

    def __str__(self) -> str:
        shares = ("products", "attention", "elementwise", "bandwidth")
        told = ", ".join(f"{name} {getattr(self, name):.3g}" for name in shares)
        return f"{told} of peak, {self.launch * 1e6:.3g} µs a kernel"


GPU = Efficiency()
"""Chosen once against the published runs of ``planning/published_speeds.py``, within what the sources allow."""
