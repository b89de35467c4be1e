"""Gradient noise scale: how many tokens a batch must have before its gradient is more signal than noise.

A piece of n targets has the gradient G plus noise of variance S/n (McCandlish et al. 2018, arXiv 1812.06162, appendix
A.1). Two sizes of batch therefore tell both apart, and a step has two: its micro-batches, over all ranks, and the whole
batch that they add up to. Of pieces of n_i targets, T together, whose summed gradients are g_i,

    E|Σ g_i|² = T²|G|² + T·S        E Σ|g_i|² = Σn_i²·|G|² + T·S,

two equations for |G|² and S without bias, also where pieces are ragged. The noise scale S/|G|² is the critical batch
in tokens: below it a batch twice as large saves nearly half the steps, far above it nearly none. The norm of the whole
gradient is the clip's; those of the pieces are taken by hooks as autograd hands each parameter's gradient over, before
it is added to what is there, so that no second buffer is needed. Estimates of one step are wild, so |G|² and S are each
averaged over the last hundred steps or so before they are divided; both averages are in the checkpoint. The pieces are
assumed to be independent, which whole sequences nearly are.

``propose_ramp`` turns what a run measured into the thresholds of a ``BatchRamp``. A batch that followed the measurement
during the run was left out on purpose: what a step reads, where contexts may grow and a branch may leave would then
depend on floating-point history instead of tokens consumed. Measured once, then declared, it stays a function.
Left out too: sharded parameters, on which hooks see no whole gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from isoflop.planning.schedule import BatchRamp

WINDOW = 100  # steps over which the estimates are averaged, about


def signal_and_noise(whole: float, pieces: float, squares: float, targets: float) -> tuple[float, float]:
    """Unbiased |G|² and S from |Σ g_i|² = ``whole``, Σ|g_i|² = ``pieces``, Σ n_i² = ``squares`` and T = ``targets``."""
    signal = (whole - pieces) / (targets**2 - squares)
    return signal, (pieces - squares * signal) / targets


@dataclass
class NoiseScale:
    """The measurement of a run: a step's sums over this rank's pieces, and the averages so far.

    ``sums`` holds Σ|g_i|², of gradients as the step scales them, and Σ n_i², to be added up over ranks.
    """

    model: nn.Module
    sums: Tensor = field(init=False)
    signal: float = 0.0
    noise: float = 0.0
    steps: int = 0

    def __post_init__(self) -> None:
        """Listen to every parameter's gradient."""
        parameters = list(self.model.parameters())
        self.sums = torch.zeros(2, device=parameters[0].device)
        for parameter in parameters:
            parameter.register_hook(self.hear)  # type: ignore[no-untyped-call]

    def hear(self, gradient: Tensor) -> None:
        """Add the squared norm of a parameter's gradient of one piece."""
        flat = gradient.detach().reshape(-1)
        self.sums[0] += torch.dot(flat, flat)

    def piece(self, targets: int) -> None:
        """Count a piece of so many targets."""
        self.sums[1] += float(targets) ** 2

    def forget(self) -> None:
        """Leave out the step at hand, which was not taken: one that is no number would never be averaged away."""
        self.sums.zero_()

    def measure(self, norm: float, targets: int, context: int) -> dict[str, float]:
        """Take up a step whose batch has a gradient of ``norm`` per target; the line's entries, and begin the next.

        ``noise_scale`` in sequences of ``context`` tokens, ``critical_batch`` in tokens; none before there is an
        estimate, as in a step of a single piece.
        """
        pieces, squares = self.sums.tolist()
        self.sums.zero_()
        if 0 < squares < 0.999 * targets**2:
            signal, noise = signal_and_noise(norm**2, pieces, squares / targets**2, 1.0)
            self.steps += 1
            share = 1 / min(self.steps, WINDOW)
            self.signal += share * (signal - self.signal)
            self.noise += share * (noise * targets - self.noise)
        if self.signal <= 0:
            return {}
        critical = self.noise / self.signal
        return {"noise_scale": critical / context, "critical_batch": critical}

    def tensors(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def record(self) -> dict[str, Any]:
        """The averages."""
        return {"signal": self.signal, "noise": self.noise, "steps": self.steps}

    def restore(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Go on with the averages; what a step had begun is forgotten."""
        self.sums.zero_()
        self.signal, self.noise, self.steps = record["signal"], record["noise"], record["steps"]


def propose_ramp(metrics: Sequence[Mapping[str, Any]], first: int, most: int = 8) -> BatchRamp:
    """The ramp whose batch is never above the critical one that a run's metrics have, from ``first`` tokens on.

    A doubling comes where the critical batch was below the doubled size for the last time; at most ``most`` of them.
    """
    measured = [(line["tokens"], line["critical_batch"]) for line in metrics if "critical_batch" in line]
    thresholds: list[int] = []
    for size in (first << doubling for doubling in range(1, most + 1)):
        below = [i for i, (_, critical) in enumerate(measured) if critical < size]
        reached = below[-1] + 1 if below else 0
        if reached >= len(measured):
            break
        thresholds.append(max(measured[reached][0], thresholds[-1] + 1 if thresholds else 1))
    return BatchRamp(first, tuple(thresholds))
