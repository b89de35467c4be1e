"""Trains runs one after another as a rank of one group of processes: ``torchrun … parallel_runs.py RUN…``.

Each RUN is a directory with its config. What a run raises is written into it as ``error.txt``, and the next one begins.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from isoflop.training.loop import train
from isoflop.training.run import Run

torch.set_num_threads(1)
for path in map(Path, sys.argv[1:]):
    try:
        train(Run(path).config, path)
    except ValueError as error:
        (path / f"error{os.environ['RANK']}.txt").write_text(str(error))
dist.destroy_process_group()
