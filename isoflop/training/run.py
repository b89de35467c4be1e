"""A run is a directory: ``config.toml`` as resolved, ``metrics.jsonl`` appended, ``checkpoints/``, ``summary.json``.

Everything that looks at runs (sweeps, fits, the report, resumption) reads these files and nothing else. A run with a
summary is finished. On resumption the metrics written after the checkpoint are cut off, so that the file reads as if
nothing had happened.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from isoflop import config as configuration
from isoflop.files import disk_errors, write_json, write_text
from isoflop.training.config import TrainConfig

LAYOUTS = "layouts.jsonl"
TAIL = 1 << 16
"""Bytes that hold the last line of metrics, also of a mixture of many sources."""


@dataclass(frozen=True)
class Run:
    """The directory of one training run."""

    path: Path

    @property
    def config(self) -> TrainConfig:
        """The resolved config the run was started with."""
        return configuration.load(TrainConfig, self.path / "config.toml")

    @property
    def summary(self) -> dict[str, Any] | None:
        """What a finished run achieved; None while it is not finished."""
        return self._read("summary.json")

    def start(self, config: TrainConfig) -> None:
        """Record the config, or check that it is the one the directory was started with.

        The layout over processes alone may differ: the new one is written, and the old one kept in ``layouts.jsonl``.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if (self.path / "config.toml").exists():
            if changed := configuration.difference(replace(self.config, parallel=config.parallel), config):
                raise ValueError(
                    f"{self.path} was started with another config ({changed}); "
                    f"use the old value to go on, or another directory to start anew"
                )
            if self.config == config:
                return
            before = {"until_tokens": self.tokens_so_far(), **asdict(self.config.parallel)}
            with disk_errors(self.path), (self.path / LAYOUTS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(before) + "\n")
        write_text(self.path / "config.toml", configuration.dumps(config))

    def finish(self, summary: dict[str, Any]) -> None:
        """Record the summary, which marks the run as finished."""
        write_json(self.path / "summary.json", summary)

    def metrics(self) -> list[dict[str, Any]]:
        """Every line of the metrics so far; a last line cut short by a crash is left out."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def rewind(self, tokens: int) -> None:
        """Cut the metrics back to those written at or before ``tokens`` tokens."""
        kept = [json.dumps(line) + "\n" for line in self.metrics() if line["tokens"] <= tokens]
        write_text(self.path / "metrics.jsonl", "".join(kept))

    def tokens_so_far(self) -> int:
        """Tokens the last metrics line speaks of; 0 before the first."""
        return int(self.last_line().get("tokens", 0))

    def last_line(self) -> dict[str, Any]:
        """The last whole line of the metrics, without reading the whole file; empty before the first."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return {}
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            lines = [line for line in file.read().split(b"\n")[:-1] if line.startswith(b"{")]
        return dict(json.loads(lines[-1])) if lines else {}

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        return json.loads(path.read_text()) if path.exists() else None


class Copies(Protocol):
    """Where lines of metrics go besides (``training.sinks``)."""

    def write(self, values: dict[str, float]) -> None:
        """Take a line."""
        ...

    def close(self) -> None:
        """That was the last one."""
        ...


class Metrics:
    """The open ``metrics.jsonl`` of a run: one JSON object a line, flushed as written, then told to the ``copies``."""

    def __init__(self, run: Run, copies: Copies | None = None) -> None:
        self.path, self.copies = run.path / "metrics.jsonl", copies
        self.file = self.path.open("a", encoding="utf-8")

    def write(self, **values: Any) -> None:
        """Append one line."""
        with disk_errors(self.path):
            self.file.write(json.dumps(values) + "\n")
            self.file.flush()
        if self.copies is not None:
            self.copies.write(values)

    def close(self) -> None:
        """Close the file and the copies."""
        self.file.close()
        if self.copies is not None:
            self.copies.close()
