"""What the model that a stage begins with says of every token of its responses, asked once and kept in a file.

So no second model is in memory while the first is trained, and a stage that goes on after a stop compares with the same
numbers. It costs one forward pass over all examples, which processes share, and four bytes a token.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import xxhash
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from isoflop.files import disk_errors, write_bytes
from isoflop.model.llama import Llama
from isoflop.training.ranks import Ranks

FILE = "reference.safetensors"
NAME = "log_likelihoods"


def reference(folder: Path, model: Llama, examples: str, ask: Callable[[Ranks], Tensor], ranks: Ranks) -> Tensor:
    """What the model says, or said when the file in the stage's ``folder`` was written.

    ``ask`` gives this process's share of it among ``ranks``, zeros elsewhere; ``examples`` identifies them. Raises
    ValueError where the file is of another model or other examples.
    """
    file, fingerprint = folder / FILE, f"{examples} {weights_fingerprint(model)}"
    if file.exists():
        return read(file, fingerprint)
    found = ask(ranks)
    ranks.add(found)
    if ranks.leads:
        with disk_errors(file):
            write_bytes(file, save({NAME: found.cpu()}, metadata={"of": fingerprint}))
    return found


def read(file: Path, fingerprint: str) -> Tensor:
    """What a file has; a ValueError where it is of something else."""
    with safe_open(file, framework="pt") as kept:
        if (kept.metadata() or {}).get("of") != fingerprint:
            raise ValueError(
                f"{file} is of another model or other examples than the stage has now; restore them, or start another "
                f"directory"
            )
        found: Tensor = kept.get_tensor(NAME)
    return found


def weights_fingerprint(model: Llama) -> str:
    """xxh3 of all parameters, in their order."""
    digest = xxhash.xxh3_128()
    for parameter in model.parameters():
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
