"""A folder as Hugging Face keeps models: ``config.json`` and safetensors in one file or in shards with an index.

Opening reads headers only, and holds every tensor's name and shape against the config; weights are read when asked for,
one tensor at a time. Nothing is unpickled: a folder with ``pytorch_model.bin`` alone is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from isoflop.model.hub_config import from_config
from isoflop.model.names import HUGGING_FACE, spans
from isoflop.model.source import Foreign, check, contents, read_rows

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# Frequencies that old files keep beside the weights; they follow from the config. A head where it is tied.
COMPUTED = "rotary_emb.inv_freq"
HEAD = HUGGING_FACE.once["untied_head"]


def open_hub(folder: Path) -> Foreign:
    """The weights of a Hugging Face folder. Raises ValueError, naming the key, file or tensor at fault."""
    try:
        shape = from_config(read_json(folder / CONFIG))
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from None
    where = tensors_of(folder)
    headers = {file: contents(file) for file in sorted(set(where.values()))}
    expected = {theirs: span.shape for theirs, span in spans(shape, HUGGING_FACE).items()}
    found, types = {}, {}
    for name, file in where.items():
        if name not in headers[file]:
            raise ValueError(f"{file} lacks the tensor {name}, which the index of {folder} says it holds")
        if not name.endswith(COMPUTED) and not (shape.tied and name == HEAD):
            found[name], types[name] = headers[file][name]
    check(expected, found, str(folder))

    def read(name: str) -> Tensor:
        return read_rows(where[name], name)

    return Foreign(shape, HUGGING_FACE, read, types, files=tuple(headers))


def tensors_of(folder: Path) -> dict[str, Path]:
    """Which file has which tensor; a ValueError for an index that points out of the folder."""
    if (folder / INDEX).exists():
        listed = read_json(folder / INDEX).get("weight_map")
        if not isinstance(listed, dict):
            raise ValueError(f"{folder / INDEX} has no weight_map, so that no tensor can be found")
        for name, file in listed.items():
            if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
                raise ValueError(f"{folder / INDEX} puts {name} into {file!r}, which is no safetensors file beside it")
        return {name: folder / file for name, file in listed.items()}
    if (folder / SINGLE).exists():
        return dict.fromkeys(contents(folder / SINGLE), folder / SINGLE)
    raise ValueError(
        f"{folder} has neither {SINGLE} nor {INDEX}; pickled weights (.bin, .pth) are never read, "
        "so save them with safetensors first"
    )


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object out of a file; a ValueError where it is none."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{file} is missing") from None
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{file} is not a JSON object")
    return value
