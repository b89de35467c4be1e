"""Every layout of processes trains the run that one process trains, and takes it up where another left it.

Four processes are started once, by torchrun, and train all runs of this file one after another, which takes minutes;
two do so for the quick test.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from isoflop.planning.parallel import Parallel
from isoflop.planning.schedule import BatchRamp, Schedule
from isoflop.planning.shape import Shape
from isoflop.training import checkpoint
from isoflop.training.config import TrainConfig
from isoflop.training.launch import free_port
from isoflop.training.loop import train
from isoflop.training.run import LAYOUTS, Run

LAYOUT = {
    "replicated": Parallel(),
    "fsdp": Parallel(shard=4),
    "hsdp": Parallel(replicate=2, shard=2),
    "tensor": Parallel(tensor=4),
    "context": Parallel(context=4),
    "pipeline": Parallel(pipeline=4),
    "tensor, two copies": Parallel(tensor=2),
    "fsdp, tensor": Parallel(shard=2, tensor=2),
    "fsdp, context": Parallel(shard=2, context=2),
    "fsdp, pipeline": Parallel(shard=2, pipeline=2),
    "context, tensor": Parallel(context=2, tensor=2),
    "tensor, pipeline": Parallel(tensor=2, pipeline=2),
}
HALF = 1024
"""Tokens after which runs are left by one layout and taken up by another."""
RESUMED = ("fsdp", "tensor", "pipeline")
"""The layouts that take up what one process began; each also begins what one process takes up."""


def base(tokens: Path) -> TrainConfig:
    """Eight steps with a ragged last micro-batch and a tied head; ranks validate on unequal numbers of batches."""
    return TrainConfig(
        shape=Shape(4, 32, 4, 4, 32, 300, context=32),
        data=str(tokens),
        schedule=Schedule(tokens=2 * HALF, peak=0.01, warmup_tokens=256, decay_tokens=512),
        batch=BatchRamp(256),
        micro_tokens=96,
        precision="fp32",
        compile="never",
        validation_tokens=960,
        validate_times=2,
        keep=(HALF,),
    )


@pytest.fixture(scope="module")
def runs(tiny_tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: ``one`` and ``masked`` by one process, the others by four."""
    torch.set_num_threads(1)
    folder, config = tmp_path_factory.mktemp("runs"), base(tiny_tokens)
    masked = replace(config, document_mask=True, shape=replace(config.shape, tied=False))
    train(config, folder / "one")
    train(masked, folder / "masked")
    configs = {name: replace(config, parallel=layout) for name, layout in LAYOUT.items()}
    configs["recomputed, fsdp"] = replace(config, recompute="blocks", parallel=Parallel(shard=2, context=2))
    configs["bf16, one"] = replace(config, precision="bf16")
    configs["bf16, fsdp, tensor"] = replace(config, precision="bf16", parallel=Parallel(shard=2, tensor=2))
    configs["masked, context"] = replace(masked, parallel=Parallel(context=2, pipeline=2))
    configs["does not divide"] = replace(config, parallel=Parallel(tensor=3))
    for name, made in configs.items():
        Run(folder / name).start(made)
    for name in RESUMED:
        begun = leave_at_half(folder / "one", folder / f"one, then {name}")
        Run(begun).start(replace(config, parallel=LAYOUT[name]))
    names = [*configs, *(f"one, then {name}" for name in RESUMED)]
    torchrun([str(folder / name) for name in names])
    for name in RESUMED:
        train(config, leave_at_half(folder / name, folder / f"{name}, then one"))
    return folder


def leave_at_half(run: Path, copy: Path) -> Path:
    """A copy of a run as it was when it had consumed half of its tokens and was killed a little later."""
    shutil.copytree(run, copy)
    (copy / "summary.json").unlink()
    for path in (copy / "checkpoints").iterdir():
        if path != checkpoint.folder(copy, HALF):
            shutil.rmtree(path)
    return copy


def torchrun(arguments: list[str], processes: int = 4) -> None:
    """Start processes that train these runs."""
    script = Path(__file__).with_name("parallel_runs.py")
    start = [
        "-m",
        "torch.distributed.run",
        f"--nproc-per-node={processes}",
        f"--master-port={free_port()}",
        str(script),
    ]
    done = subprocess.run(
        [sys.executable, *start, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[:4000]


def assert_same_run(ours: Path, theirs: Path, rtol: float = 1e-5, weights: float = 1e-3) -> None:
    """Loss and gradient norm of every step are equal, and so are validation and the last weights."""
    one, other = Run(ours), Run(theirs)
    assert one.summary is not None
    assert other.summary is not None
    assert [line["tokens"] for line in one.metrics()] == [line["tokens"] for line in other.metrics()]
    for a, b in zip(one.metrics(), other.metrics(), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=rtol)
        assert b["gradient_norm"] == pytest.approx(a["gradient_norm"], rel=rtol)
    assert other.summary["validation_loss"] == pytest.approx(one.summary["validation_loss"], rel=rtol)
    ends = [checkpoint.latest(path) for path in (ours, theirs)]
    wanted, found = (load_file(end / "model.safetensors") for end in ends if end)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=weights)


def test_two_processes_train_what_one_does(tiny_tokens: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    config = replace(base(tiny_tokens), schedule=Schedule(tokens=HALF, peak=0.01, warmup_tokens=256), keep=())
    train(config, tmp_path / "one")
    pairs = {name: Parallel(**{name: 2}) for name in ("shard", "tensor", "context", "pipeline")}
    for name, layout in pairs.items():
        Run(tmp_path / name).start(replace(config, parallel=layout))
    torchrun([str(tmp_path / name) for name in pairs], 2)
    for name in pairs:
        assert_same_run(tmp_path / "one", tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUT)
def test_layout_trains_what_one_process_does(runs: Path, layout: str) -> None:
    assert_same_run(runs / "one", runs / layout)


@pytest.mark.slow
def test_documents_stay_apart_in_every_layout(runs: Path) -> None:
    assert_same_run(runs / "masked", runs / "masked, context")


@pytest.mark.slow
def test_recomputed_blocks_are_sharded_too(runs: Path) -> None:
    assert_same_run(runs / "one", runs / "recomputed, fsdp")


@pytest.mark.slow
def test_bf16_layout_trains_like_bf16_copies(runs: Path) -> None:
    assert_same_run(runs / "bf16, one", runs / "bf16, fsdp, tensor", rtol=2e-2, weights=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("layout", RESUMED)
def test_run_goes_on_under_another_layout(runs: Path, layout: str) -> None:
    for name in (f"one, then {layout}", f"{layout}, then one"):
        assert_same_run(runs / "one", runs / name)
        first = json.loads((runs / name / LAYOUTS).read_text().splitlines()[0])
        assert first["until_tokens"] == 2 * HALF
    assert Run(runs / f"one, then {layout}").config.parallel == LAYOUT[layout]


@pytest.mark.slow
def test_first_weights_are_those_of_one_process_bit_by_bit(runs: Path) -> None:
    first = [Run(runs / name).metrics()[0] for name in ("one", "tensor", "pipeline", "fsdp")]
    assert all(line["loss"] == pytest.approx(first[0]["loss"], rel=2e-7) for line in first)


@pytest.mark.slow
def test_layout_that_does_not_divide_is_refused_in_a_sentence(runs: Path) -> None:
    said = (runs / "does not divide" / "error0.txt").read_text()
    assert said.startswith("4 processes cannot be arranged as TP 3; start a multiple of 3")
