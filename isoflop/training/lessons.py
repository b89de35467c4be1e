"""What a teacher says of a corpus, kept: its likeliest tokens at every position of every sequence, asked once.

Lessons lie in a folder beside the tokens, named by split, context, packing and a key of the fingerprints of tokens and
teacher, k and temperature, so that what was said by another or of other tokens is never met. They are stored by the
sequence's place in the split, not by a run's order: students of any seed, mixture and number of epochs share them.

A position costs 2 bytes for each of k + 1 log-probabilities (the last is of all other tokens) and 2 or 4 for each of k
ids: 66 bytes at k = 16. Files are as long as the split and sparse: what no run needed takes no room. A sequence counts
when its mark is set, which is written after its numbers are on the disk; so a kill loses a few batches. fp16 keeps
log-probabilities to 0.05%, and what is read is scaled to a sum of 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor

from isoflop.files import write_folder
from isoflop.tokens.blended import BlendedLoader
from isoflop.tokens.dataset import TokenDataset
from isoflop.training.config import TrainConfig
from isoflop.training.distillation import Likeliest
from isoflop.training.teacher import Scholar


@dataclass(frozen=True)
class Store:
    """The lessons on a source at one context: ``ids`` (sequences, context, k), ``logs`` (…, k + 1), ``done``."""

    folder: Path
    ids: NDArray[Any]
    logs: NDArray[Any]
    done: NDArray[Any]

    @classmethod
    def open(cls, folder: Path, *, writing: bool = False) -> Store:
        """Map the lessons in a folder."""
        plan = json.loads((folder / "lessons.json").read_text())
        arrays = {
            name: np.memmap(folder / f"{name}.bin", np.dtype(dtype), "r+" if writing else "r", shape=tuple(shape))
            for name, (dtype, shape) in plan["arrays"].items()
        }
        return cls(folder, **arrays)

    @classmethod
    def lay_out(cls, folder: Path, sequences: int, context: int, k: int, vocab: int, about: dict[str, Any]) -> None:
        """Make a folder of lessons that have not been given yet; ``about`` says whose and of what."""
        arrays = {
            "ids": ("<u2" if vocab <= 1 << 16 else "<u4", (sequences, context, k)),
            "logs": ("<f2", (sequences, context, k + 1)),
            "done": ("|u1", (sequences,)),
        }

        def fill(path: Path) -> None:
            for name, (dtype, shape) in arrays.items():
                with (path / f"{name}.bin").open("wb") as file:
                    file.truncate(int(np.prod(shape)) * np.dtype(dtype).itemsize)
            (path / "lessons.json").write_text(json.dumps({"arrays": arrays, "about": about}, indent=1) + "\n")

        write_folder(folder, fill)

    def give(self, positions: NDArray[np.int64], lessons: Likeliest) -> None:
        """Write what the teacher says of the sequences at these positions, (rows, context, k) and (…, k + 1)."""
        self.ids[positions] = lessons.ids.cpu().numpy()
        self.logs[positions] = lessons.logs.half().cpu().numpy()

    @property
    def sequence_bytes(self) -> int:
        """Bytes of the lessons on one sequence."""
        return sum(int(np.prod(array.shape[1:])) * array.itemsize for array in (self.ids, self.logs))

    def save(self, positions: NDArray[np.int64]) -> None:
        """Mark sequences as given, once they are on the disk."""
        for array in (self.ids, self.logs):
            array.flush()  # type: ignore[attr-defined]
        self.done[positions] = 1
        self.done.flush()  # type: ignore[attr-defined]


def place_of(config: TrainConfig, dataset: TokenDataset, context: int, teacher: Scholar) -> Path:
    """Where the lessons lie that a run's config speaks of, on one of its sources at one of its contexts."""
    assert config.teacher is not None
    asked = (config.teacher.top_k, config.teacher.temperature, config.document_mask)
    named = (dataset.manifest.fingerprint, teacher.fingerprint, *asked)
    key = xxhash.xxh3_128_hexdigest(repr(named).encode())
    return dataset.folder / f"lessons-train-{context}-{config.packing}-{key[:16]}"


@dataclass(frozen=True)
class Cached:
    """A run's teacher as it was asked beforehand; a batch's lessons are looked up by the numbers of its samples."""

    loaders: Mapping[int, BlendedLoader]
    stores: Mapping[int, list[Store]]
    """By context, the stores of the sources in the mixture's order."""

    @classmethod
    def open(
        cls,
        config: TrainConfig,
        datasets: Mapping[str, TokenDataset],
        loaders: Mapping[int, BlendedLoader],
        teacher: Scholar,
    ) -> Cached:
        """Map the lessons of every source and context of a run; a ValueError where some have not been given."""
        stores: dict[int, list[Store]] = {}
        for context in loaders:
            for dataset in datasets.values():
                folder = place_of(config, dataset, context, teacher)
                if not folder.exists():
                    raise ValueError(
                        f"{dataset.folder} has no lessons of {teacher.run.path} at a context of {context}, top_k and "
                        "temperature as configured; isoflop distil RUN asks the teacher for them"
                    )
                stores.setdefault(context, []).append(Store.open(folder))
        return cls(loaders, stores)

    def __call__(self, inputs: Tensor, first: int, documents: Tensor | None = None) -> Likeliest:
        """The lessons on the samples from number ``first`` on, which ``inputs`` (rows, context) are.

        What documents are, the teacher was told when it was asked.

        Raises ValueError where the teacher was not asked about them.
        """
        rows, context = inputs.shape
        sources, positions = self.loaders[context].places(first, rows)
        stores = self.stores[context]
        ids = np.empty((rows, context, stores[0].ids.shape[2]), np.int64)
        logs = np.empty((rows, context, stores[0].logs.shape[2]), np.float16)
        for number, store in enumerate(stores):
            mine = sources == number
            if not store.done[positions[mine]].all():
                raise ValueError(
                    f"{store.folder} lacks lessons that this run needs; isoflop distil RUN asks for the rest"
                )
            ids[mine], logs[mine] = store.ids[positions[mine]], store.logs[positions[mine]]
        flat = (torch.from_numpy(array).flatten(0, 1).to(inputs.device) for array in (ids, logs))
        return Likeliest(*flat)
