"""The optimiser is torch's AdamW to the bit, and a process that compiles nothing does not load the compiler."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from isoflop import config as configuration
from isoflop.training.adamw import AdamW
from isoflop.training.config import TrainConfig


def test_steps_are_those_of_torch() -> None:
    ends = []
    for kind in (AdamW, torch.optim.AdamW):
        torch.manual_seed(0)
        parameters = [torch.nn.Parameter(torch.randn(7, 5)), torch.nn.Parameter(torch.randn(5))]
        groups = [{"params": parameters[:1], "weight_decay": 0.1}, {"params": parameters[1:], "weight_decay": 0.0}]
        optimizer = kind(groups, lr=0.0, betas=(0.9, 0.95), eps=1e-8, fused=True)
        for number in range(5):
            for group in optimizer.param_groups:
                group["lr"] = 0.01 / (number + 1)
            (parameters[0] @ parameters[1]).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if number == 2:
                optimizer.load_state_dict(optimizer.state_dict())
        assert all(p.grad is None and p.requires_grad for p in parameters)
        ends.append([*parameters, *(s for state in optimizer.state.values() for s in state.values())])
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


def test_a_run_that_compiles_nothing_does_not_load_the_compiler(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    (tmp_path / "run.toml").write_text(configuration.dumps(tiny_config()))
    code = """
import sys
from pathlib import Path
from isoflop import config
from isoflop.training.config import TrainConfig
from isoflop.training.run import Run
from isoflop.training.trainer import Trainer
settings, run = config.load(TrainConfig, Path(sys.argv[1])), Run(Path(sys.argv[2]))
run.start(settings)
trainer = Trainer.build(settings, run)
trainer.step()
trainer.save()
Trainer.build(settings, run).step()
print(sorted(name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "run.toml"), str(tmp_path / "run")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
