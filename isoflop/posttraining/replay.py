"""Plain text of pre-training among conversations, so that a model goes on being one of language.

Pieces of a prepared corpus of one length, in which documents follow each other as in pre-training; all their tokens are
trained on. Which pieces is a matter of the seed; every epoch of the stage has the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isoflop.posttraining.rows import Example
from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.loader import Loader
from isoflop.tokens.tokenizer import Tokenizer


def replayed(folder: Path, tokenizer: Tokenizer, length: int, targets: float, seed: int) -> list[Example]:
    """Pieces of ``length`` places from prepared tokens, so many that they have about ``targets`` targets, one at least.

    Raises ValueError where another tokenizer made the tokens, or there are too few of them.
    """
    dataset = TokenDataset.open(folder)
    if dataset.tokenizer.checksum != tokenizer.checksum:
        raise ValueError(
            f"the tokens in {folder} are not of the model's tokenizer; prepare them with --tokenizer and that one"
        )
    loader, count = Loader(dataset, "train", length, seed), max(1, round(targets / length))
    if count > loader.samples_per_epoch:
        raise ValueError(
            f"{count:,} pieces of {length:,} tokens are to be replayed and {folder} has {loader.samples_per_epoch:,}; "
            f"prepare more text, or lower replay_share"
        )
    marks = np.ones(length + 1, np.bool_)
    marks[0] = False
    return [Example(ids.astype(np.int32), marks) for ids in loader.batch(0, count)]
