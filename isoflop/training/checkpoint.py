"""Checkpoints: everything a run needs to go on bit by bit, in one folder that is either complete or ignored.

A checkpoint at T tokens is ``checkpoints/T/``: ``model.safetensors``, ``optimizer.safetensors`` and, written last,
``checkpoint.json`` with the counters and a checksum of each file. It is filled under a temporary name and renamed.
No random state is kept because none is used after initialisation: the order of data is arithmetic. A damaged
checkpoint is said aloud and the one before it used. Left out: sharded and asynchronous saving.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import Tensor, nn

from isoflop.files import TEMPORARY, write_folder

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


def save(run: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> Path:
    """Write a checkpoint and return its folder."""

    def fill(path: Path) -> None:
        tensors = {name: p.detach().contiguous() for name, p in model.named_parameters()}
        (path / "model.safetensors").write_bytes(serialise(tensors))
        (path / "optimizer.safetensors").write_bytes(serialise(optimizer_tensors(model, optimizer)))
        checksums = {file.name: checksum(file) for file in sorted(path.iterdir())}
        (path / MARKER).write_text(json.dumps(asdict(progress) | {"files": checksums}, indent=1))

    path = folder(run, progress.tokens)
    write_folder(path, fill)
    return path


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state with the parameters' names: ``name/exp_avg`` and so on."""
    return {
        f"{name}/{key}": value.detach().contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


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


def load(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Progress:
    """Restore a model, and its optimiser if given, from a checkpoint folder; returns its counters.

    Raises ValueError when the checkpoint is missing or damaged, or belongs to a model of another shape.
    """
    marker = read_marker(path)
    if marker is None:
        raise ValueError(
            f"{path} holds no complete checkpoint; remove {path.parent.parent} to train that run again, "
            f"or restore the folder"
        )
    tensors = load_file(path / "model.safetensors")
    parameters = dict(model.named_parameters())
    if error := mismatch({n: p.shape for n, p in parameters.items()}, {n: t.shape for n, t in tensors.items()}):
        raise ValueError(f"{path} is the checkpoint of another model: {error}; use the config of its own run")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
    if optimizer is not None:
        for key, value in load_file(path / "optimizer.safetensors").items():
            name, field = key.rsplit("/", 1)
            optimizer.state[parameters[name]][field] = value.to(parameters[name].device)
    return Progress(marker["tokens"], marker["step"], marker["seconds"])


def mismatch(expected: dict[str, torch.Size], found: dict[str, torch.Size]) -> str | None:
    """The first difference between two sets of parameter shapes, in words."""
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            ours, theirs = (tuple(s[name]) if name in s else "no tensor" for s in (expected, found))
            return f"{name} is {theirs} there and {ours} here"
    return None


def retain(run: Path, keep: set[int]) -> None:
    """Delete all checkpoints but the newest and those at the token counts in ``keep``, and what a crash left half."""
    for path in (run / "checkpoints").glob(f".*{TEMPORARY}"):
        shutil.rmtree(path, ignore_errors=True)
    for path in sorted((run / "checkpoints").glob("[0-9]*"))[:-1]:
        if int(path.name) not in keep:
            shutil.rmtree(path, ignore_errors=True)
