"""Adapters as files that PEFT reads and writes: ``adapter_config.json`` beside ``adapter_model.safetensors``.

A's and B's need no permutation, because our rows of queries and keys are in transformers' order. Folders written here
name the model that they adapt, which PEFT loads first. What is read may adapt fewer parts than a block has; what is no
plain LoRA of a Llama's matrices (other ranks for some parts, DoRA, biases, trained embeddings) is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from isoflop.files import write_folder
from isoflop.model.hub import read_json
from isoflop.model.llama import Llama
from isoflop.model.lora import additions, attach
from isoflop.model.source import check, contents
from isoflop.planning.lora import Lora

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
REFUSED = ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "layers_to_transform", "lora_bias")
"""Settings of PEFT that change what an adapter is; only without them is it W + s·B·A for every part named."""


def adapter_tensors(model: Llama) -> dict[str, Tensor]:
    """A's and B's under PEFT's names, views of the model's parameters."""
    found = {}
    for theirs, addition in additions(model):
        found[f"{PREFIX}{theirs}.lora_A.weight"] = addition.a.detach()
        found[f"{PREFIX}{theirs}.lora_B.weight"] = addition.b.detach()
    return found


def config_of(lora: Lora, base: str) -> dict[str, Any]:
    """What ``adapter_config.json`` says; ``base`` is where the model is that the adapter belongs to."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "target_modules": list(lora.parts),
        "use_rslora": lora.rank_stabilised,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


def adapter_files(model: Llama, lora: Lora, base: str) -> dict[str, bytes]:
    """The two files, by name, of the adapters that ``attach`` gave a model as ``lora`` says."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in adapter_tensors(model).items()}
    return {
        ADAPTER_CONFIG: (json.dumps(config_of(lora, base), indent=2) + "\n").encode(),
        ADAPTER_WEIGHTS: save(tensors, metadata={"format": "pt"}),
    }


def save_adapter(model: Llama, lora: Lora, folder: Path, base: str) -> None:
    """Write the adapters of a model into a folder, replacing an older one whole."""

    def fill(temporary: Path) -> None:
        for name, data in adapter_files(model, lora, base).items():
            (temporary / name).write_bytes(data)

    write_folder(folder, fill)


def read_lora(folder: Path) -> Lora:
    """What kind of adapter a folder has; a ValueError names what is not plain LoRA."""
    said = read_json(folder / ADAPTER_CONFIG)
    where = folder / ADAPTER_CONFIG
    if said.get("peft_type") != "LORA" or said.get("bias", "none") != "none":
        raise ValueError(f"{where} is no LoRA without biases; only those are read")
    if odd := [key for key in REFUSED if said.get(key)]:
        raise ValueError(f"{where} asks for {odd[0]}, which is not known here; merge that adapter with PEFT first")
    try:
        parts = tuple(sorted(str(part) for part in said["target_modules"]))
        return Lora(int(said["r"]), float(said["lora_alpha"]), parts, bool(said.get("use_rslora", False)))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where} does not describe an adapter of a Llama's blocks: {error}") from None


def load_adapter(model: Llama, folder: Path) -> Lora:
    """Give a model the adapters in a folder; a ValueError where they do not belong to a model of its shape."""
    lora, file = read_lora(folder), folder / ADAPTER_WEIGHTS
    found = {name: size for name, (size, _) in contents(file).items()}
    mine = adapter_tensors(attach(model, lora))
    check({name: tuple(tensor.shape) for name, tensor in mine.items()}, found, str(file))
    read = load_file(file)
    with torch.no_grad():
        for name, tensor in mine.items():
            tensor.copy_(read[name])
    return lora
