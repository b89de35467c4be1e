"""What cleaning buys: the same small model at equal tokens on raw and on cleaned text, on the same held-out texts.

Raw text is English prose and mathematics as it is; cleaned text is what ``isoflop clean`` with the config given keeps
of it. One tokenizer, trained on both halves and half. Held out, all of them measured and none tuned on: the held-out
folder cleaned by the same stages (less those that compare documents), the same as it is, and two neutral texts of others.
The model's size and tokens are those that fit the minutes; three seeds, equal ones with equal initial weights.

Everything is on disk under --out, and the same command goes on where it was stopped.

    python benchmarks/cleaning_effect.py --out runs/cleaning-effect --corpus ../shared/corpus --minutes 20
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from isoflop import config as configuration
from isoflop.corpus import documents
from isoflop.corpus.pipeline.config import CleanConfig, from_table
from isoflop.corpus.pipeline.pipeline import clean
from isoflop.files import write_json, write_text
from isoflop.mixing.layout import CONFIG, Proxy, proxy_config
from isoflop.mixing.request import largest
from isoflop.mixing.search import train_all
from isoflop.mixing.settings import Domain, HeldOut, MixConfig
from isoflop.planning.hyperparameters import context_for
from isoflop.processors import processors
from isoflop.progress import Report, console
from isoflop.sweeps.speed import measure_speed
from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.prepare import PrepareConfig, prepare
from isoflop.training.run import Run

VOCAB = 2048
SEEDS = (0, 1, 2)
TEXTS = ("raw", "clean")
FOLDERS = ("general", "math")
"""Folders of the corpus that are trained on."""
HELD_OUT = {
    "clean": ("sample-general", "sample-math", "whole-general", "whole-math"),
    "raw": ("sample-general", "sample-math", "whole-general", "whole-math"),
    "squad": ("whole-general-squad",),
    "gsm8k": ("whole-math-gsm8k",),
}
TOKENIZER_BYTES, LONGEST_PIECE = 5_000_000, 20_000
TOKENS_PER_PARAMETER = 20.0
