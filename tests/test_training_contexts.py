"""A run whose context grows resumes, branches and shares its batches exactly, like one whose context does not."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch

from isoflop import config as configuration
from isoflop.cli import train as command
from isoflop.model import llama
from isoflop.planning.schedule import ContextRamp, Schedule
from isoflop.planning.shape import Shape
from isoflop.training import checkpoint
from isoflop.training.config import Branch, TrainConfig
from isoflop.training.loop import train
from isoflop.training.ranks import Ranks
from isoflop.training.run import Run
from isoflop.training.trainer import Trainer
from isoflop.training.validation import Validation

Make = Callable[..., TrainConfig]
RAMP = ContextRamp(8, (1024, 2048))  # to 32, the tiny config's


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def ending(run: Path) -> tuple[list[bytes], list[tuple[float, ...]]]:
    """The bytes of the newest checkpoint's tensors, and the metrics but for the time."""
    newest = checkpoint.latest(run)
    assert newest is not None
    repeated = (
        "tokens",
        "step",
        "loss",
        "learning_rate",
        "batch_tokens",
        "context",
        "gradient_norm",
        "validation_loss",
    )
    lines = [tuple(line[k] for k in repeated if k in line) for line in Run(run).metrics()]
    return [file.read_bytes() for file in sorted(newest.glob("*.safetensors"))], lines


def begun(config: TrainConfig, path: Path) -> Trainer:
    """A run before its first step."""
    run = Run(path)
    run.start(config)
    return Trainer.build(config, run)


def crash_after(config: TrainConfig, path: Path, steps: int) -> None:
    """Take some steps of a run and leave it as a crash would, its last checkpoint two steps old."""
    trainer = begun(config, path)
    for step in range(steps):
        trainer.step()
        if step == steps - 3:
            trainer.save()


def test_each_step_and_validation_has_the_context_in_force(tiny_config: Make, tmp_path: Path) -> None:
    config, seen = tiny_config(context=RAMP), []
    trainer = begun(config, tmp_path / "run")
    hidden = trainer.model.hidden
    trainer.model.hidden = lambda tokens, *_: seen.append(tokens.shape) or hidden(tokens)  # type: ignore[method-assign]
    for consumed in (0, 1024, 2048):
        trainer.progress = checkpoint.Progress(consumed, 0, 0.0)
        line, _ = trainer.step()
        assert line["context"] == RAMP.at(consumed)
    assert seen == [(16, 8), (8, 16), (8, 16), (4, 32), (4, 32)]

    train(config, tmp_path / "run")
    run = Run(tmp_path / "run")
    assert [line["context"] for line in run.metrics()] == [RAMP.at(t) for t in config.batch.steps(4096)]
    assert run.summary is not None
    assert run.summary["flops_exact"] == config.flops_exact(0, 4096)


def test_validations_have_the_context_in_force_and_the_last_has_the_longest(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = []

    def measure(self: Validation, model: llama.Llama, ranks: Ranks, context: int | None = None) -> dict[str, float]:
        contexts.append(context or self.tokens.shape[1] - 1)
        return {"validation_loss": 1.0}

    monkeypatch.setattr(Validation, "measure", measure)
    train(tiny_config(context=RAMP, validate_times=8), tmp_path / "run")
    assert contexts == [8, 8, 16, 16, 32, 32, 32, 32]  # every 512 tokens


def test_run_that_is_killed_while_its_context_grows_ends_with_the_same_bits(tiny_config: Make, tmp_path: Path) -> None:
    ramp = ContextRamp(8, (4096, 20_480))
    config = tiny_config(schedule=Schedule(32_768, 0.01, 256, 1024), context=ramp, checkpoint_seconds=0.0)
    train(config, tmp_path / "whole")
    (tmp_path / "run.toml").write_text(configuration.dumps(config))
    arguments = ["train", str(tmp_path / "killed"), "--config", str(tmp_path / "run.toml"), "--threads", "1"]
    process = subprocess.Popen([sys.executable, "-m", "isoflop", *arguments], stderr=subprocess.DEVNULL)
    while process.poll() is None and Run(tmp_path / "killed").tokens_so_far() < 6_000:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    train(config, tmp_path / "killed")
    assert ending(tmp_path / "killed") == ending(tmp_path / "whole")


@pytest.mark.parametrize("steps", [5, 9, 14])
def test_crash_in_any_stage_changes_nothing(tiny_config: Make, tmp_path: Path, steps: int) -> None:
    config = tiny_config(context=RAMP)
    train(config, tmp_path / "whole")
    crash_after(config, tmp_path / "parts", steps)
    train(config, tmp_path / "parts")
    assert ending(tmp_path / "parts")[0] == ending(tmp_path / "whole")[0]


def test_every_context_of_a_run_has_a_compiled_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default torch gives up after eight shapes and goes on uncompiled."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    monkeypatch.setattr(llama, "compiled_block", cache(llama.compiled_block.__wrapped__))
    model = llama.Llama(Shape(2, 16, 2, 1, 32, 300, context=256), compiled=True).initialise(0)
    for context in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        model.hidden(torch.zeros(1, context, dtype=torch.int64))
    assert len(graphs) == 9


def test_ramp_of_one_stage_is_no_ramp(tiny_config: Make, tmp_path: Path) -> None:
    train(tiny_config(), tmp_path / "without")
    train(tiny_config(context=ContextRamp(32)), tmp_path / "with")
    assert ending(tmp_path / "with") == ending(tmp_path / "without")


def test_ranks_share_every_batch_of_every_stage(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(context=RAMP)
    trainer = begun(config, tmp_path / "run")
    for consumed in config.batch.steps(4096):
        batches = []
        for count in (1, 3):
            parts = []
            for rank in range(count):
                trainer.ranks = Ranks(rank, count)
                parts += list(trainer.micro_batches(consumed, config.batch.at(consumed)))
            batches.append(torch.cat(parts).numpy())
        assert batches[0].shape == (config.batch.at(consumed) // RAMP.at(consumed), RAMP.at(consumed) + 1)
        assert np.array_equal(*batches)


def test_branch_leaves_a_trunk_whose_context_has_grown_as_if_it_had_run_alone(
    tiny_config: Make, tmp_path: Path
) -> None:
    decayed = Schedule(3072, 0.01, 256, 1024)
    branch = tiny_config(schedule=decayed, context=RAMP, branch=Branch("../trunk", 2048))
    train(tiny_config(schedule=Schedule(4096, 0.01, 256), context=RAMP, keep=(1536, 2048)), tmp_path / "trunk")
    train(branch, tmp_path / "branch")
    train(tiny_config(schedule=decayed, context=RAMP), tmp_path / "alone")
    assert ending(tmp_path / "branch")[0] == ending(tmp_path / "alone")[0]

    later = tiny_config(schedule=decayed, context=ContextRamp(8, (1024, 3072)), branch=Branch("../trunk", 1536))
    with pytest.raises(ValueError, match="cannot branch .* differ before that point"):
        train(later, tmp_path / "later")


def test_dry_run_lists_the_stages_of_a_run_that_has_several(tiny_config: Make) -> None:
    assert "stages" not in command.describe(tiny_config())
    text = command.describe(tiny_config(context=RAMP))
    rows = [line.removeprefix("#").split() for line in text[text.index("# stages") :].splitlines()[2:]]
    assert rows == [
        ["0", "256", "8", "128", "3.89e-05", "0.01"],
        ["256", "1,024", "8", "128", "0.01", "0.01"],
        ["1,024", "2,048", "16", "256", "0.01", "0.01"],
        ["2,048", "3,072", "32", "256", "0.01", "0.01"],
        ["3,072", "4,096", "32", "256", "0.01", "0"],
    ]
