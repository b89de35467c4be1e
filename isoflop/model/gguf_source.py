"""Reading a GGUF Llama as a source of weights: full precision, or whatever the ``gguf`` package can unpack.

The file is mapped; a tensor is unpacked when asked for. Quantised weights become fp32, and stay as coarse as they are.
Reading the metadata of a file with 128,256 tokens takes the package a few seconds. Left out: the vocabulary, which a
``tokenizer.json`` beside the original has whole, and files split in several.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isoflop.model.gguf_layout import ROPE_FACTORS, halved, shape_from
from isoflop.model.names import LLAMA_CPP, spans
from isoflop.model.source import Foreign, check

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor

TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def open_gguf(path: Path) -> Foreign:
    """The weights of a GGUF file. Raises ValueError, naming the key or tensor, where it is damaged or no Llama's."""
    reader = read_headers(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    sizes = {name: tuple(int(n) for n in reversed(tensor.shape)) for name, tensor in tensors.items()}
    if (embedding := LLAMA_CPP.once["embedding"]) not in tensors:
        raise ValueError(f"{path} lacks the tensor {embedding}")
    factors = unpacked(tensors.pop(ROPE_FACTORS)) if ROPE_FACTORS in tensors else None
    tied = LLAMA_CPP.once["untied_head"] not in tensors
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.")}
    try:
        shape = shape_from(fields, sizes[embedding][0], tied, factors)
    except ValueError as error:
        raise ValueError(f"{path} is not a Llama's: {error}") from None
    check({name: s.shape for name, s in spans(shape, LLAMA_CPP).items()}, {n: sizes[n] for n in tensors}, str(path))

    def read(name: str) -> Tensor:
        return halved(name, unpacked(tensors[name]), shape)

    types = {name: TYPES.get(tensor.tensor_type.name, torch.float32) for name, tensor in tensors.items()}
    return Foreign(shape, LLAMA_CPP, read, types, files=(path,))


def read_headers(path: Path) -> GGUFReader:
    """What the file says it holds; a ValueError for whatever the package stumbles over."""
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeError, MemoryError) as error:
        raise ValueError(f"{path} is damaged, cut short or no GGUF file ({error}); copy it again") from None


def unpacked(tensor: ReaderTensor) -> Tensor:
    """A tensor's values, in its own type where torch has that, else in fp32."""
    from gguf.quants import dequantize

    kind, size = tensor.tensor_type.name, [int(n) for n in reversed(tensor.shape)]
    data: Any = np.array(tensor.data)
    if kind in TYPES:
        return torch.from_numpy(data.reshape(-1)).view(torch.uint8).view(TYPES[kind]).view(size)
    try:
        return torch.from_numpy(dequantize(data, tensor.tensor_type)).view(size)
    except NotImplementedError:
        raise ValueError(f"{tensor.name} is packed as {kind}, which the gguf package cannot unpack") from None
