"""``isoflop plan --calibrate``: measure this machine once, in a process of its own, and remember it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isoflop.planning.machine import Machine


def calibrate(*, as_json: bool) -> None:
    """Measure, remember and print. Raises RuntimeError where measuring failed."""
    from isoflop.planning.machine import Machine, remembered

    path = remembered()
    path.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([sys.executable, "-m", "isoflop.training.calibrate", str(path)], check=False)
    if done.returncode:
        raise RuntimeError("measuring this machine failed; what it said stands above")
    found = Machine.load(path)
    print(json.dumps(found.to_json(), indent=1) if as_json else f"{told(found)}\nremembered in {path}")


def told(machine: Machine) -> str:
    """What was measured, in a few lines."""
    rates, shares, device = machine.device.rates, machine.efficiency(), machine.device
    products = [f"{rate / 1e9:,.0f} GFLOP/s in {name}" for name, rate in vars(rates).items() if rate]
    memory, bandwidth = (device.memory or 0) / 1e9, (device.bandwidth or 0) / 1e9
    return "\n".join(
        [
            f"processor   {machine.processor}, {machine.cores} cores, {machine.threads} threads, torch {machine.torch}",
            f"products    {', '.join(products)}; training uses {machine.dtype}",
            f"memory      {memory:,.1f} GB, {bandwidth:,.1f} GB/s",
            f"reached     {shares.products:.0%} of the peak in products, {shares.attention:.0%} in attention",
            f"compiling   {machine.compile_seconds:.0f} s a shape",
        ]
    )
