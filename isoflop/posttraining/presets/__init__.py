"""Configs of whole rounds that ship."""

from __future__ import annotations

import difflib
from pathlib import Path

from isoflop import config as configuration
from isoflop.posttraining.align import AlignConfig

FOLDER = Path(__file__).parent


def preset(name: str) -> AlignConfig:
    """The config of this name; a ValueError for a name that there is none of."""
    known = sorted(file.stem for file in FOLDER.glob("*.toml"))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise ValueError(f"there is no preset {name!r}; " + (f"did you mean {near[0]}?" if near else f"{known} ship"))
    return configuration.load(AlignConfig, FOLDER / f"{name}.toml")
