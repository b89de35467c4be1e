"""Asking a teacher beforehand about all that a run will read (``isoflop distil``), into the stores of ``lessons``.

Costs a forward pass of the teacher for each sequence that it was never asked about; one process at a time asks about
a folder of tokens. Left out: several processes sharing the questions.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from isoflop.files import locked
from isoflop.model.llama import Llama
from isoflop.progress import Report, silent
from isoflop.tokens import packing
from isoflop.tokens.blended import BlendedLoader, blended_loaders, open_sources
from isoflop.tokens.loader import Loader
from isoflop.training.config import TrainConfig
from isoflop.training.distillation import Likeliest, likeliest
from isoflop.training.hardware import device_for, precision_for
from isoflop.training.lessons import Store, place_of
from isoflop.training.loss import chunk_rows
from isoflop.training.teacher import Scholar

LOCK = ".lessons-lock"
SAVE_SECONDS = 5.0  # of asking that a kill loses at most
LOOK = 1 << 16  # samples whose places are found at once


def ask(config: TrainConfig, run: Path, report: Report = silent) -> dict[str, int]:
    """Ask the teacher of the run in ``run`` about all that the run will read; returns sequences asked and bytes kept.

    What it has said before is not asked again; a kill loses seconds.
    """
    if config.teacher is None or not config.teacher.top_k:
        raise ValueError(f"{run} needs no lessons beforehand: its config has no teacher with a top_k")
    if config.teacher.top_k > config.shape.vocab:
        raise ValueError(
            f"top_k = {config.teacher.top_k} is more than the {config.shape.vocab} tokens of the vocabulary"
        )
    datasets = open_sources(config.sources, run)
    loaders = blended_loaders(datasets, config.blends, config.contexts.stages(), config.seed, config.packing)
    teacher, device = Scholar.find(config, run, datasets), device_for(config.device)
    model = teacher.load(device, precision_for(config.precision, device))
    asked = kept = 0
    for context in loaders:
        reads = read_by(config, loaders[context], context)
        for number, dataset in enumerate(datasets.values()):
            with locked(dataset.folder / LOCK):
                loader = Loader(dataset, "train", context, packing=config.packing)
                folder = place_of(config, dataset, context, teacher)
                if not folder.exists():
                    about = {"teacher": str(teacher.run.path.resolve()), "temperature": config.teacher.temperature}
                    Store.lay_out(
                        folder, loader.samples_per_epoch, context, config.teacher.top_k, config.shape.vocab, about
                    )
                store = Store.open(folder, writing=True)
                wanted = np.zeros(len(store.done), np.bool_)
                wanted[reads[1, reads[0] == number]] = True
                missing = np.flatnonzero(wanted & (store.done == 0))
                question(config, model, loader, store, missing, report)
                asked, kept = asked + len(missing), kept + int(wanted.sum()) * store.sequence_bytes
    return {"sequences": asked, "bytes": kept}


def read_by(config: TrainConfig, loader: BlendedLoader, context: int) -> NDArray[np.int64]:
    """Source and position of every sample that a run reads at a context, (2, samples)."""
    end = config.batch.align(config.schedule.tokens)
    found = [np.empty((2, 0), np.int64)]
    for stage in config.contexts.stages(0, end):
        if stage.value == context:
            first, last = stage.start // context, int(stage.end) // context
            found += [loader.places(i, min(LOOK, last - i)) for i in range(first, last, LOOK)]
    return np.concatenate(found, axis=1)


@torch.no_grad()
def question(
    config: TrainConfig, model: Llama, loader: Loader, store: Store, positions: NDArray[np.int64], report: Report
) -> None:
    """Ask about the sequences at these positions, a micro-batch at a time, and keep the answers."""
    assert config.teacher is not None
    rows = max(1, config.micro_tokens // loader.context)
    saved, since = time.monotonic(), 0
    for start in range(0, len(positions), rows):
        part = positions[start : start + rows]
        read = torch.from_numpy(loader.at(part)[:, :-1]).to(model.embedding.device)
        inputs, documents = packing.inputs(read), loader.document_ids(read) if config.document_mask else None
        flat = model.hidden(inputs, documents).flatten(0, 1)
        head, step = model.head.to(flat.dtype), chunk_rows(len(flat), model.shape.vocab)
        said = [
            likeliest(
                piece, head, config.teacher.top_k, cap=model.shape.logit_cap, temperature=config.teacher.temperature
            )
            for piece in torch.split(flat, step)
        ]
        ids, logs = (torch.cat(tensors).view(*inputs.shape, -1) for tensors in zip(*said, strict=True))
        store.give(part, Likeliest(ids, logs))
        if time.monotonic() - saved > SAVE_SECONDS or start + rows >= len(positions):
            store.save(positions[since : start + rows])
            saved, since = time.monotonic(), start + rows
        report("lessons", min(start + rows, len(positions)), len(positions))
