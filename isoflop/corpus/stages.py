"""Every cleaning stage by the name that configs call it, imported only when somebody asks for it.

A stage becomes known by a line here; nothing else in the pipeline knows one stage from another. Costs nothing until
a stage is built, because some of them load models.
"""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from isoflop import config
from isoflop.corpus.stage import Stage

STAGES: dict[str, str] = {}


def stage_class(name: str) -> type[Stage]:
    """The class of the stage called ``name``. Raises ValueError that suggests the nearest name."""
    if name not in STAGES:
        near = difflib.get_close_matches(name, STAGES, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(STAGES)}"
        raise ValueError(f"there is no cleaning stage {name!r}; {hint}")
    module, _, title = STAGES[name].partition(":")
    found: type[Stage] = getattr(importlib.import_module(module), title)
    return found


def build_stage(name: str, settings: dict[str, Any], where: str) -> Stage:
    """The stage called ``name`` with these thresholds. Raises ValueError naming the key at fault."""
    return config.from_dict(stage_class(name), settings, where)
