"""Beginning a run with somebody's weights instead of random ones: continued pre-training.

Weights are copied in at token 0, one tensor at a time, and what they were is recorded in the run's directory: the path,
every file's checksum. A run that was stopped before its first checkpoint begins again with the same ones or not at all;
one that has a checkpoint no longer needs them. The optimiser starts without moments, so a warmup is in order.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from isoflop import config as configuration
from isoflop.files import write_json
from isoflop.model.source import Lazy, Source
from isoflop.planning.shape import Shape
from isoflop.training import checkpoint
from isoflop.training.parts import Part
from isoflop.training.weights import open_weights

FILE = "initial.json"


def begin(run: Path, initial: str, shape: Shape, weights: Part, *, write: bool) -> None:
    """Give the model's part the weights at ``initial``, a path relative to the run's directory or absolute.

    Raises ValueError, naming the field, where they are of another shape (their context may be another), and where they
    are not those that this run began with before. Only where ``write`` is set are files written.
    """
    path = run / initial
    source = open_weights(path)
    if found := configuration.difference(replace(source.shape, context=shape.context), shape):
        raise ValueError(f"{path} is not of this run's shape; theirs → this run's: shape.{found}")
    now = record(initial, source)
    before = json.loads((run / FILE).read_text()) if (run / FILE).exists() else now
    if before != now:
        raise ValueError(
            f"the weights at {path} are not those that {run} began with; restore them or start another run"
        )
    if write:
        write_json(run / FILE, now)
    weights.restore(Lazy(source), {})


def record(initial: str, source: Source) -> dict[str, Any]:
    """What identifies weights: where they were and the checksum of each file."""
    checksums = {file.name: checkpoint.checksum(file) for file in source.files}
    return {"path": initial, "files": checksums, "shape": source.shape.to_json()}
