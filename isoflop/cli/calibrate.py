"""``isoflop plan --calibrate``: measure this machine once, in a process of its own, and remember it."""

from __future__ import annotations

import json
import subprocess
import sys

from isoflop.interrupt import INTERRUPTED, Interrupted


def calibrate(*, as_json: bool) -> None:
    """Measure, remember and print. Raises RuntimeError where measuring failed, Interrupted where it was stopped."""
    from isoflop.planning.machine import Machine, remembered

    path = remembered()
    path.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([sys.executable, "-m", "isoflop.training.calibrate", str(path)], stdout=subprocess.DEVNULL)
    if done.returncode == INTERRUPTED:
        raise Interrupted("stopped before this machine was measured; nothing was written")
    if done.returncode:
        raise RuntimeError("measuring this machine failed; what it said stands above")
    found = Machine.load(path)
    print(json.dumps(found.to_json(), indent=1) if as_json else f"{found}\nremembered in {path}")
