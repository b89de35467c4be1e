"""Configs of cleanings out of TOML, with errors that name the key, and the place in which two configs differ."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from isoflop import config as configuration
from isoflop.corpus.pipeline.config import CleanConfig, Source, Step
from isoflop.corpus.stages import build_stage

SCOPE_KEYS = ("only", "except")


@dataclass(frozen=True)
class _Plain:
    """The keys of a config that are plain values."""

    shard_bytes: int = CleanConfig.shard_bytes
    sample: float = CleanConfig.sample
    bad_fraction: float = CleanConfig.bad_fraction
    by: str = CleanConfig.by
    examples: int = CleanConfig.examples
    seed: int = CleanConfig.seed


def from_table(values: Mapping[str, Any], where: str = "config") -> CleanConfig:
    """A config from plain values. Raises ValueError naming the key at fault."""
    values = dict(values)
    corpus = _sources(values.pop("corpus", ()), f"{where}.corpus")
    tables = values.pop("stage", ())
    if not isinstance(tables, Sequence) or isinstance(tables, str):
        raise ValueError(f"{where}.stage must be [[stage]] tables, not {tables!r}")
    steps = tuple(_step(table, f"{where}.stage[{number}]") for number, table in enumerate(tables, 1))
    plain = configuration.from_dict(_Plain, values, where)
    return CleanConfig(corpus, steps, **vars(plain))


def read_table(path: Path) -> dict[str, Any]:
    """The plain values of a TOML file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"there is no config file at {path}") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder: give the config file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None


def difference(old: Any, new: Any, where: str = "") -> str | None:
    """The first place in which two configs' plain values differ, as ``stage[2].min_words was 50 and is now 40``."""
    for key, a, b in _pairs(old, new):
        place = f"{where}[{key}]" if isinstance(key, int) else f"{where}.{key}" if where else key
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict) and a.get("name") == b.get("name"):
            return difference(a, b, place)
        if isinstance(a, list) and isinstance(b, list):
            return difference(a, b, place)
        return f"{place} was {_brief(a)} and is now {_brief(b)}"
    return None


def _pairs(old: Any, new: Any) -> Iterator[tuple[Any, Any, Any]]:
    if isinstance(old, dict):
        yield from ((key, old.get(key), new.get(key)) for key in old | new)
        return
    yield from ((number, a, b) for number, (a, b) in enumerate(zip_longest(old, new), 1))


def _brief(value: Any) -> str:
    if isinstance(value, dict) and "name" in value:
        return repr(value["name"])
    return "absent" if value is None else repr(value)


def _sources(value: Any, where: str) -> tuple[Source, ...]:
    if isinstance(value, str):
        return (Source(value),)
    if isinstance(value, Mapping) and all(isinstance(path, str) for path in value.values()):
        return tuple(Source(path, name) for name, path in value.items())
    if isinstance(value, list | tuple) and all(isinstance(path, str) for path in value):
        return tuple(Source(path) for path in value)
    raise ValueError(f"{where} must be a path, a list of paths or a table of names and paths, not {value!r}")


def _step(table: Any, where: str) -> Step:
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        raise ValueError(f'{where} must be a table with a name, such as name = "minhash", not {table!r}')
    settings = dict(table)
    name = settings.pop("name")
    scope = [configuration.convert(tuple[str, ...], settings.pop(key, ()), f"{where}.{key}") for key in SCOPE_KEYS]
    return Step(build_stage(name, settings, f"{where} ({name})"), *scope)
