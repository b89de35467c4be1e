"""The files that stages name in their thresholds, by what is in them: word lists, models, reference texts, benchmarks.

Their contents decide verdicts as thresholds do, so a cleaning records them when it begins and refuses to go on with
others. Costs one reading of them a start, about 2 GB/s where the disk gives it. Corpora that are no files ("python",
"hf:…") are not followed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import xxhash

from isoflop.corpus.pipeline.config import CleanConfig
from isoflop.files import write_json

FILE = "inputs.json"
_BLOCK = 1 << 20


def named(config: CleanConfig) -> Iterator[tuple[str, Path]]:
    """The paths that a config's stages name, each with its key, such as ``stage[2].bad_words``."""
    for number, step in enumerate(config.steps, 1):
        for field in step.stage.inputs:
            value = getattr(step.stage, field)
            for path in (value,) if isinstance(value, str) else value:
                if path and path != "python":
                    yield f"stage[{number}].{field}", Path(path).expanduser()


def fingerprints(config: CleanConfig) -> dict[str, str]:
    """What tells the contents of those files and folders from others, by key and path."""
    return {f"{key} ({path})": _fingerprint(path) for key, path in named(config) if path.exists()}


def check(config: CleanConfig, out: Path) -> None:
    """Record the files of a cleaning that begins; raises ValueError naming the first that changed since."""
    path, now = out / FILE, fingerprints(config)
    if not path.exists():
        write_json(path, now)
        return
    for name, before in json.loads(path.read_text(encoding="utf-8")).items():
        if now.get(name) != before:
            what = "holds something else now" if name in now else "is gone"
            raise ValueError(
                f"{name} {what}, and {out} was begun with what it was: restore it, or clean into another folder; "
                f"to begin anew here, remove {out}."
            )


def _fingerprint(path: Path) -> str:
    digest = xxhash.xxh3_128()
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
        with file.open("rb") as opened:
            while block := opened.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
