"""Writing a GGUF file, which llama.cpp and what is built on it read: weights, shape and vocabulary in one.

The ``gguf`` package (extra ``gguf``) does the format and the packing; every tensor is read, packed and written before
the next (measured: as much memory as the largest tensor has, 2.3 seconds of a processor for 125M parameters as q8_0).
Norms are fp32 in any file, as llama.cpp wants them. Left out: fewer than 8 bits a weight, which llama.cpp's own tool
makes of such a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isoflop.files import TEMPORARY, commit, disk_errors, sync
from isoflop.model.export import Told, refuse_existing
from isoflop.model.gguf_layout import ROPE_FACTORS, metadata, paired, rope_factors
from isoflop.model.names import LLAMA_CPP, Span, spans
from isoflop.model.source import Source
from isoflop.planning.shape import Shape
from isoflop.progress import Report, silent

if TYPE_CHECKING:
    from gguf import GGUFWriter

Packing = Literal["fp32", "f16", "bf16", "q8_0"]
# The package's names of a matrix's type and of the whole file's.
KINDS = {"fp32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
FILES = {"fp32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
ROW = 32  # values that q8_0 packs together


def tensors(shape: Shape, packing: Packing) -> dict[str, tuple[Span, Packing]]:
    """Every tensor of the file: the rows of ours that it holds and how they are packed."""
    found: dict[str, tuple[Span, Packing]] = {}
    for name, span in spans(shape, LLAMA_CPP).items():
        if span.row and packing == "q8_0" and span.row[0] % ROW:
            raise ValueError(
                f"q8_0 packs {ROW} values of a row together, and {name} has rows of {span.row[0]}; use bf16"
            )
        found[name] = (span, packing if span.row else "fp32")
    return found


def packed_bytes(span: Span, packing: Packing) -> int:
    """Bytes of a tensor in the file."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[KINDS[packing]]]
    return int(np.prod(span.shape)) // block * size


def export_gguf(
    source: Source,
    out: Path,
    *,
    packing: Packing = "bf16",
    vocabulary: Mapping[str, Any] | None = None,
    name: str = "isoflop",
    report: Report = silent,
) -> None:
    """Write the file ``out``; ``vocabulary`` is the tokenizer under GGUF's keys (``tokens.gguf``).

    Raises ValueError where ``out`` is there already or rows do not fit q8_0.
    """
    from gguf import GGUFWriter, LlamaFileType

    refuse_existing(out)
    where = tensors(source.shape, packing)
    fields = {"general.name": name, "general.file_type": int(LlamaFileType[FILES[packing]])}
    temporary = out.with_name(out.name + TEMPORARY)
    writer = GGUFWriter(temporary, "llama")
    for key, value in (fields | metadata(source.shape) | dict(vocabulary or {})).items():
        put(writer, key, value)
    try:
        with disk_errors(out):
            write(writer, source, where, report)
            sync(temporary)
            commit(temporary, out)
    finally:
        writer.close()
        temporary.unlink(missing_ok=True)


def put(writer: GGUFWriter, key: str, value: Any) -> None:
    """Add one value under the type that llama.cpp expects of it: a whole number is unsigned."""
    from gguf import GGUFValueType

    kinds = {
        bool: GGUFValueType.BOOL,
        int: GGUFValueType.UINT32,
        float: GGUFValueType.FLOAT32,
        str: GGUFValueType.STRING,
    }
    writer.add_key_value(key, value, kinds.get(type(value), GGUFValueType.ARRAY))


def write(writer: GGUFWriter, source: Source, where: Mapping[str, tuple[Span, Packing]], report: Report) -> None:
    """Metadata and the list of tensors first, then the data of each as it is read."""
    from gguf import GGMLQuantizationType

    factors = rope_factors(source.shape)
    if factors is not None:
        writer.add_tensor_info(ROPE_FACTORS, factors.shape, np.dtype(np.float32), factors.nbytes)
    sizes = {name: packed_bytes(*entry) for name, entry in where.items()}
    for name, (span, packing) in where.items():
        kind = GGMLQuantizationType[KINDS[packing]]
        writer.add_tensor_info(name, span.shape, np.dtype(np.float32), sizes[name], raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
        writer.write_tensor_data(factors.numpy())
    told = Told("export", sum(sizes.values()), report)
    for name, (span, packing) in where.items():
        rows = source.rows(span.ours, span.start, span.end)
        writer.write_tensor_data(packed(paired(name, rows, span, source.shape), packing))
        told(sizes[name])
    writer.flush()


def packed(rows: Tensor, packing: Packing) -> NDArray[Any]:
    """The bytes of a tensor as an array."""
    if packing == "q8_0":
        from gguf import GGMLQuantizationType
        from gguf.quants import quantize

        return quantize(rows.float().numpy(), GGMLQuantizationType.Q8_0)
    dtype = {"fp32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[packing]
    return rows.to(device="cpu", dtype=dtype).contiguous().view(torch.uint8).numpy()
