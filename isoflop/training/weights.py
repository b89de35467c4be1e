"""Weights by a path, wherever they are from: a run, one of its checkpoints, an imported, Hugging Face or GGUF model.

What a path is, its files say: nothing has to be told. Opening costs the reading of headers, and of a run's checkpoint
its checksums.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from isoflop import config as configuration
from isoflop.model.export import SHAPE, WEIGHTS
from isoflop.model.hub import CONFIG, open_hub, read_json
from isoflop.model.source import Source, Stored
from isoflop.planning.shape import Shape
from isoflop.tokens.manifest import TOKENIZER
from isoflop.training import checkpoint
from isoflop.training.averaging import PART
from isoflop.training.run import Run


def open_weights(path: Path, *, averaged: bool = False) -> Source:
    """The weights at ``path``; with ``averaged`` the mean of a run's (``training.averaging``) instead of its last.

    Raises ValueError where there are none, or they are damaged or no Llama's.
    """
    if path.is_file() and path.suffix == ".gguf" and not averaged:
        from isoflop.model.gguf_source import open_gguf

        return open_gguf(path)
    if (path / "config.toml").exists():
        if (newest := checkpoint.latest(path)) is None:
            raise ValueError(f"{path} has no complete checkpoint yet; train it first")
        return open_checkpoint(newest, averaged=averaged)
    if (path / checkpoint.MARKER).exists():
        return open_checkpoint(path, averaged=averaged)
    if averaged:
        raise ValueError(f"{path} is no run, and runs alone have averaged weights")
    if (path / SHAPE).exists():
        shape = configuration.from_dict(Shape, read_json(path / SHAPE), str(path / SHAPE))
        return Stored.open(shape, path / WEIGHTS)
    if (path / CONFIG).exists():
        return open_hub(path)
    if (path / "checkpoints").is_dir():
        raise ValueError(f"{path} has checkpoints and no model yet: the stage is not finished; go on with it first")
    raise ValueError(
        f"there is no model at {path}: neither a run, a checkpoint, an imported model, a Hugging Face folder with "
        f"{CONFIG}, nor a .gguf file"
    )


def open_checkpoint(path: Path, *, averaged: bool = False) -> Stored:
    """The weights of a checkpoint folder; its run has the shape, with the context and rope of its last step."""
    if (marker := checkpoint.read_marker(path)) is None:
        raise ValueError(f"{path} holds no complete checkpoint; take another of the same run")
    config = run_of(path).config
    last = max(0, marker["tokens"] - 1)
    context, rope = config.contexts.at(last), config.rope_at(last)
    shape = replace(config.shape, context=context, rope_theta=rope.theta, rope_scaling=rope.scaling)
    if averaged and not (path / f"{PART}.safetensors").exists():
        raise ValueError(f"{path} has no averaged weights: the run's config asks for none, or they begin later")
    return Stored.open(shape, path / (f"{PART}.safetensors" if averaged else WEIGHTS))


def run_of(path: Path) -> Run:
    """The run of a checkpoint folder."""
    run = Run(Path(os.path.normpath(path / ".." / "..")))
    if not (run.path / "config.toml").exists():
        raise ValueError(f"{path} is not inside its run, whose config.toml says what shape it has")
    return run


def tokenizer_beside(path: Path) -> Path | None:
    """The ``tokenizer.json`` that belongs to the weights at ``path``, if there is one."""
    folder = path if path.is_dir() else path.parent
    if (folder / checkpoint.MARKER).exists():
        folder = run_of(folder).path
    if (folder / "config.toml").exists():
        run = Run(folder)
        folder = folder / run.config.sources[0].data
    return folder / TOKENIZER if (folder / TOKENIZER).exists() else None
