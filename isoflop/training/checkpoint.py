"""Checkpoints: everything a run needs to go on bit by bit, in one folder that is either complete or ignored.

A checkpoint at T tokens is ``checkpoints/T/``: a safetensors file for each part of the run that has tensors (``parts``)
and, written last, ``checkpoint.json`` with the counters, the parts' other state and a checksum of each file. It is
filled under a temporary name and renamed.
No random state is kept because none is used after initialisation: the order of data is arithmetic. A damaged
checkpoint is said aloud and the one before it used. Left out: sharded and asynchronous saving.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xxhash
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import Tensor, nn

from isoflop.files import TEMPORARY, write_folder
from isoflop.training.parts import Part, Weights

MARKER = "checkpoint.json"


@dataclass(frozen=True)
class Progress:
    """The counters of a run: tokens consumed, steps taken, seconds of training spent."""

    tokens: int
    step: int
    seconds: float


def folder(run: Path, tokens: int) -> Path:
    """Where a run's checkpoint at ``tokens`` tokens is kept; names sort in order."""
    return run / "checkpoints" / f"{tokens:016d}"


def save(run: Path, progress: Progress, parts: Mapping[str, Part]) -> Path:
    """Write a checkpoint and return its folder."""
    contents = {name: (part.tensors(), part.record()) for name, part in parts.items()}
    return write(run, progress, contents)


def write(run: Path, progress: Progress, contents: Mapping[str, tuple[dict[str, Tensor], dict[str, Any]]]) -> Path:
    """Write what parts gave, tensors and other state by name, as one checkpoint; return its folder."""

    def fill(path: Path) -> None:
        for name, (tensors, _) in contents.items():
            if tensors:
                (path / f"{name}.safetensors").write_bytes(serialise(tensors))
        checksums = {file.name: checksum(file) for file in sorted(path.iterdir())}
        records = {name: record for name, (_, record) in contents.items() if record}
        marker = asdict(progress) | {"parts": records, "files": checksums}
        (path / MARKER).write_text(json.dumps(marker, indent=1))

    path = folder(run, progress.tokens)
    write_folder(path, fill)
    return path


def checksum(file: Path) -> str:
    """xxh3 of a file's bytes."""
    digest = xxhash.xxh3_128()
    with file.open("rb") as stream:
        while piece := stream.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def read_marker(path: Path) -> dict[str, Any] | None:
    """The marker of a complete, undamaged checkpoint; None, said aloud where something is there, otherwise."""
    if not (path / MARKER).exists():
        return None
    try:
        marker: dict[str, Any] = json.loads((path / MARKER).read_text())
        for name, expected in marker["files"].items():
            if checksum(path / name) != expected:
                raise ValueError(f"{name} does not have the checksum it was written with")
    except (OSError, ValueError, KeyError) as error:
        print(f"checkpoint {path} is damaged ({error}); looking for the one before it", file=sys.stderr)
        return None
    return marker


def latest(run: Path) -> Path | None:
    """The newest complete checkpoint of a run, if there is one."""
    candidates = sorted((run / "checkpoints").glob("[0-9]*"), reverse=True)
    return next((path for path in candidates if read_marker(path)), None)


def load(path: Path, parts: Mapping[str, Part]) -> Progress:
    """Restore these parts from a checkpoint folder; returns its counters. A part that it does not hold is left alone.

    Raises ValueError when the checkpoint is missing or damaged, or belongs to a model of another shape.
    """
    marker = read_marker(path)
    if marker is None:
        raise ValueError(
            f"{path} holds no complete checkpoint; remove {path.parent.parent} to train that run again, "
            f"or restore the folder"
        )
    records = marker.get("parts", {})
    for name, part in parts.items():
        file = f"{name}.safetensors"
        tensors = load_file(path / file) if file in marker["files"] else {}
        if tensors or name in records:
            try:
                part.restore(tensors, records.get(name, {}))
            except ValueError as error:
                raise ValueError(f"{path} does not fit this run: {error}") from None
    return Progress(marker["tokens"], marker["step"], marker["seconds"])


def load_weights(path: Path, model: nn.Module) -> Progress:
    """Restore a model alone; see :func:`load`."""
    return load(path, {"model": Weights(model)})


def retain(run: Path, keep: set[int]) -> None:
    """Delete all checkpoints but the newest and those at the token counts in ``keep``, and what a crash left half."""
    for path in (run / "checkpoints").glob(f".*{TEMPORARY}"):
        shutil.rmtree(path, ignore_errors=True)
    for path in sorted((run / "checkpoints").glob("[0-9]*"))[:-1]:
        if int(path.name) not in keep:
            shutil.rmtree(path, ignore_errors=True)
