"""Checkpoints: everything a run needs to go on bit by bit, in one folder that is either complete or ignored.

A checkpoint at T tokens is ``checkpoints/T/``: a safetensors file for each part of the run that has tensors (``parts``)
and, written last, ``checkpoint.json`` with the counters, the parts' other state, a checksum of each file and one of
itself. It is filled under a temporary name, synced and renamed; one that is complete is never replaced, so at no moment
is there less than before. A damaged checkpoint is said aloud and the one before it used.
No random state is kept because none is used after initialisation: the order of data is arithmetic.

Costs no second copy of the tensors: writing reads them where they are, and reading maps the files (100 million
parameters in 20 tensors: 3.4 s to write to a disk, 0.2 s for the checksums). Left out: sharded saving.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from isoflop.files import TEMPORARY, write_folder
from isoflop.training.parts import Part, Weights

MARKER = "checkpoint.json"
Contents = Mapping[str, tuple[dict[str, Tensor], dict[str, Any]]]
"""What parts gave, tensors and other state by the part's name."""


@dataclass(frozen=True)
class Progress:
    """The counters of a run: tokens consumed, steps taken, seconds of training spent."""

    tokens: int
    step: int
    seconds: float


def folder(run: Path, tokens: int) -> Path:
    """Where a run's checkpoint at ``tokens`` tokens is kept; names sort in order."""
    return run / "checkpoints" / f"{tokens:016d}"


def taken(parts: Mapping[str, Part]) -> Contents:
    """What all parts give now; every rank asks, in one order."""
    return {name: (part.tensors(), part.record()) for name, part in parts.items()}


def save(run: Path, progress: Progress, parts: Mapping[str, Part]) -> Path:
    """Write a checkpoint and return its folder."""
    return write(run, progress, taken(parts))


def write(run: Path, progress: Progress, contents: Contents) -> Path:
    """Write what parts gave as one checkpoint, unless the run has an undamaged one of these tokens; its folder."""

    def fill(path: Path) -> None:
        for name, (tensors, _) in contents.items():
            if tensors:
                store(tensors, path / f"{name}.safetensors")
        checksums = {file.name: checksum(file) for file in sorted(path.iterdir())}
        records = {name: record for name, (_, record) in contents.items() if record}
        marker = asdict(progress) | {"holds": list(contents), "parts": records, "files": checksums}
        (path / MARKER).write_text(json.dumps(marker | {"checksum": fingerprint(marker)}, indent=1))

    path = folder(run, progress.tokens)
    if read_marker(path) is None:
        write_folder(path, fill)
    return path


def store(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors to a file; what the system refuses, as on a full disk, is an OSError again."""
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        if found := re.search(r"os error (\d+)", str(error)):
            number = int(found[1])
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


def fingerprint(marker: Mapping[str, Any]) -> str:
    """xxh3 of what a marker says, as JSON has it."""
    said = json.loads(json.dumps({key: value for key, value in marker.items() if key != "checksum"}))
    return xxhash.xxh3_128_hexdigest(json.dumps(said, sort_keys=True).encode())


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
        if marker.get("checksum", fingerprint(marker)) != fingerprint(marker):
            raise ValueError(f"{MARKER} does not have the checksum it was written with")
        for name, expected in marker["files"].items():
            if checksum(path / name) != expected:
                raise ValueError(f"{name} does not have the checksum it was written with")
    except (OSError, ValueError, KeyError) as error:
        print(f"checkpoint {path} is damaged ({error}); looking for the one before it", file=sys.stderr)
        return None
    return marker


def latest(run: Path) -> Path | None:
    """The newest complete checkpoint of a run, if there is one."""
    return next((path for path in reversed(folders(run)) if read_marker(path)), None)


def folders(run: Path) -> list[Path]:
    """The folders of all checkpoints of a run, oldest first, damaged ones included."""
    return sorted((run / "checkpoints").glob("[0-9]*"))


def load(path: Path, parts: Mapping[str, Part]) -> Progress:
    """Restore these parts from a checkpoint folder; returns its counters.

    A part that it never held, as one from before there was such a part, is left as it is, which is said aloud.
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
        if name not in marker.get("holds", parts):
            print(f"checkpoint {path} knows nothing of the {name}, which begins anew", file=sys.stderr)
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


def retain(run: Path, keep: Callable[[int], bool], last: int = 1) -> None:
    """Delete all checkpoints but the ``last`` newest and those to ``keep``, and what a crash left half."""
    for path in (run / "checkpoints").glob(f".*{TEMPORARY}"):
        shutil.rmtree(path, ignore_errors=True)
    for path in folders(run)[:-last]:
        if not keep(int(path.name)):
            shutil.rmtree(path, ignore_errors=True)
