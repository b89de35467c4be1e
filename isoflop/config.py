"""Configuration: frozen dataclasses out of TOML and JSON, and back, with errors that name the key.

Every room keeps its own dataclasses beside the code they configure; this module converts and records. An unknown key is
an error that suggests the nearest known one; a value of the wrong type says where it stands. Costs nothing and
depends on nothing heavy. Left out: interpolation, inheritance and every other language inside the language.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from isoflop.files import write_text

T = TypeVar("T")


def from_dict(kind: type[T], values: dict[str, Any], where: str = "config") -> T:
    """Build dataclass ``kind`` from plain values. Raises ValueError naming the key at fault."""
    if not isinstance(values, dict):
        raise ValueError(f"{where} must be a table of {kind.__name__}'s keys, not {values!r}")
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known keys are {', '.join(fields)}"
            raise ValueError(f"{where} has an unknown key {key!r}{hint}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ValueError(f"{where} lacks the key {name!r}")
    return kind(**{key: convert(hints[key], value, f"{where}.{key}") for key, value in values.items()})


def convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the type that ``hint`` names: nested dataclasses, tuples, optionals, literals, numbers."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, where)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return convert(next(a for a in arguments if a is not type(None)), value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise ValueError(f"{where} must be one of {', '.join(map(repr, arguments))}, not {value!r}")
        return value
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [arguments[0]] * len(value) if arguments[1:] == (...,) else list(arguments)
        if len(kinds) == len(value):
            return tuple(convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if origin is dict and isinstance(value, dict):
        return {key: convert(arguments[1], entry, f"{where}.{key}") for key, entry in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 1e9 is how people write a billion tokens
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise ValueError(f"{where} must be {getattr(hint, '__name__', hint)}, not {value!r}")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain values, leaving out those that are None (TOML has no null)."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items() if v is not None}
        return [plain(v) for v in value] if isinstance(value, list | tuple) else value

    return typing.cast(dict[str, Any], plain(dataclasses.asdict(config)))


def load(kind: type[T], path: Path) -> T:
    """Read a TOML file into dataclass ``kind``."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"there is no config file at {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    return from_dict(kind, values, path.name)


def dumps(config: Any) -> str:
    """A dataclass as TOML text."""
    return tomli_w.dumps(to_dict(config))


def require_same(config: Any, file: Path) -> None:
    """A ValueError where ``file`` holds another config, which its directory was started with; none is no other."""
    if file.exists() and (changed := difference(load(type(config), file), config)):
        raise ValueError(
            f"{file.parent} was started with another config ({changed}); "
            f"use the old value to go on, or another directory to start anew"
        )


def record(config: Any, file: Path, title: str = "") -> None:
    """Write a config into the directory that it starts, or check that it is the one that it was started with."""
    require_same(config, file)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, (f"# {title}\n" if title else "") + dumps(config))


def difference(old: Any, new: Any, prefix: str = "") -> str | None:
    """The first field in which two dataclasses differ, as ``field: old → new``, or None."""
    for field in dataclasses.fields(old):
        a, b = getattr(old, field.name), getattr(new, field.name)
        if a != b and dataclasses.is_dataclass(a) and dataclasses.is_dataclass(b):
            return difference(a, b, f"{prefix}{field.name}.")
        if a != b:
            return f"{prefix}{field.name}: {a!r} → {b!r}"
    return None
