"""Where weights come from, whatever holds them: a model in memory, our files, a Hugging Face folder, a GGUF file.

A source has a shape and gives rows of our tensors when asked, so that nothing that copies weights from one place to
another ever holds more than one tensor: reading a Hugging Face folder and writing a GGUF file is the same loop as
reading a checkpoint and filling a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from isoflop.model.llama import Llama
from isoflop.model.names import Dialect, Span, parameters, spans
from isoflop.planning.shape import Shape

TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""What safetensors calls the types that weights are kept in."""


class Source(Protocol):
    """Weights under our names, read when asked for."""

    @property
    def shape(self) -> Shape:
        """The network that they are of."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold them; none for a model in memory."""
        ...

    def dtype(self, name: str) -> torch.dtype:
        """The type of one of our tensors."""
        ...

    def rows(self, name: str, start: int = 0, end: int | None = None) -> Tensor:
        """Rows ``start`` … ``end`` of one of our tensors, by default all."""
        ...


@dataclass(frozen=True)
class Held:
    """A model in memory, its adapters' additions included."""

    model: Llama
    files: tuple[Path, ...] = ()

    @property
    def shape(self) -> Shape:
        """The model's."""
        return self.model.shape

    def dtype(self, name: str) -> torch.dtype:
        """That of the parameter."""
        return self.model.get_parameter(name).dtype

    def rows(self, name: str, start: int = 0, end: int | None = None) -> Tensor:
        """A view of the parameter, or of a sum where an adapter adds to it."""
        return self.model.weight(name).detach()[start:end]


@dataclass(frozen=True)
class Stored:
    """One safetensors file with our names: a checkpoint's weights, or what ``isoflop import`` wrote."""

    shape: Shape
    file: Path

    @classmethod
    def open(cls, shape: Shape, file: Path) -> Stored:
        """Open such a file; a ValueError names the tensor at fault where it is not of this shape."""
        found = {name: size for name, (size, _) in contents(file).items()}
        check(parameters(shape), found, str(file))
        return cls(shape, file)

    @property
    def files(self) -> tuple[Path, ...]:
        """The one."""
        return (self.file,)

    def dtype(self, name: str) -> torch.dtype:
        """As the file has it."""
        return self._types[name]

    def rows(self, name: str, start: int = 0, end: int | None = None) -> Tensor:
        """Read from the file."""
        return read_rows(self.file, name, start, end)

    @cached_property
    def _types(self) -> dict[str, torch.dtype]:
        return {name: dtype for name, (_, dtype) in contents(self.file).items()}


@dataclass(frozen=True)
class Foreign:
    """Tensors under the names of a dialect; ``read`` gives one, ``types`` has the type of each."""

    shape: Shape
    dialect: Dialect
    read: Callable[[str], Tensor]
    types: Mapping[str, torch.dtype]
    files: tuple[Path, ...] = ()

    def dtype(self, name: str) -> torch.dtype:
        """The type that holds all the parts exactly."""
        return reduce(torch.promote_types, (self.types[theirs] for theirs, _ in self._parts[name]))

    def rows(self, name: str, start: int = 0, end: int | None = None) -> Tensor:
        """Read of theirs only what these rows are made of."""
        parts = self._parts[name]
        end = parts[-1][1].end if end is None else end
        read = [
            self.read(theirs)[max(start - span.start, 0) : end - span.start]
            for theirs, span in parts
            if span.start < end and start < span.end
        ]
        return read[0] if len(read) == 1 else torch.cat([part.to(self.dtype(name)) for part in read])

    @cached_property
    def _parts(self) -> dict[str, list[tuple[str, Span]]]:
        found: dict[str, list[tuple[str, Span]]] = {}
        for theirs, span in spans(self.shape, self.dialect).items():
            found.setdefault(span.ours, []).append((theirs, span))
        return found


@dataclass(frozen=True)
class Lazy(Mapping[str, Tensor]):
    """A source as a mapping of names to whole tensors, each read anew when it is looked up."""

    source: Source

    def __getitem__(self, name: str) -> Tensor:
        """Read one tensor."""
        return self.source.rows(name)

    def __iter__(self) -> Iterator[str]:
        """The names of all tensors."""
        return iter(parameters(self.source.shape))

    def __len__(self) -> int:
        """How many there are."""
        return len(parameters(self.source.shape))


def contents(file: Path) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and type of every tensor of a safetensors file, from its header; a ValueError where it is damaged."""
    found = {}
    with opened(file) as handle:
        for name in handle.keys():  # noqa: SIM118 - no mapping, it only has this method
            tensor = handle.get_slice(name)
            if (kind := tensor.get_dtype()) not in TYPES:
                raise ValueError(f"{name} in {file} is of type {kind}; only {', '.join(TYPES)} are read")
            found[name] = (tuple(tensor.get_shape()), TYPES[kind])
    return found


def read_rows(file: Path, name: str, start: int = 0, end: int | None = None) -> Tensor:
    """Rows of one tensor of a safetensors file."""
    with opened(file) as handle:
        rows: Tensor = handle.get_slice(name)[start:end]
    return rows


def opened(file: Path) -> Any:
    """A safetensors file, mapped into memory; a ValueError where there is none or it is cut short."""
    try:
        return safe_open(file, framework="pt")
    except FileNotFoundError:
        raise ValueError(f"{file} is missing; copy it again") from None
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is damaged or cut short ({error}); copy it again") from None


def check(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], where: str) -> None:
    """A ValueError that names the first tensor that is missing, is not known, or has another shape."""
    for name, size in expected.items():
        if name not in found:
            raise ValueError(f"{where} lacks the tensor {name}, of shape {size}")
        if found[name] != size:
            raise ValueError(f"{name} in {where} has the shape {found[name]}, where its config says {size}")
    if unknown := sorted(found.keys() - expected.keys()):
        raise ValueError(f"{where} has a tensor that this Llama has no place for: {unknown[0]}")
