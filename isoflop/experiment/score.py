"""The verdict: what was predicted before the run, what the run measured, and whether the interval held it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from isoflop.training.run import Run


def score(flagship: Path) -> dict[str, Any]:
    """Compare a finished run with the plan written before it. Raises ValueError when either is missing."""
    plan_file, summary = flagship / "plan.json", Run(flagship).summary
    if not plan_file.exists() or summary is None:
        missing = "plan.json" if not plan_file.exists() else "summary.json"
        raise ValueError(f"{flagship} has no {missing}: plan and train the run before scoring it")
    plan = json.loads(plan_file.read_text())
    predicted, (low, high) = plan["predicted_loss"], plan["interval_95"]
    measured = summary["validation_loss"]
    inside = low <= measured <= high
    error = math.log(measured / predicted)
    place = "inside" if inside else f"{'above' if measured > high else 'below'}, outside"
    return {
        "predicted": predicted,
        "interval_95": [low, high],
        "measured": measured,
        "inside": inside,
        "log_error": error,
        "measured_bpb": summary["validation_bpb"],
        "methods": {r["method"]: {"loss": r["loss"], "interval_95": r["interval"]} for r in plan["readings"]},
        "verdict": (
            f"predicted {predicted:.3f} nats/token (95%: {low:.3f} to {high:.3f}), measured {measured:.3f}: "
            f"{place} the interval, {error:+.1%}"
        ),
    }
