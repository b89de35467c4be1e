"""What to train: shapes and their arithmetic, the ladder of sizes, hyper-parameters, hardware, and the plan.

``plan`` and its ``Question`` are imported when first used, so that the arithmetic alone stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isoflop.planning.planner import Plan, Question, plan

__all__ = ["Plan", "Question", "plan"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from isoflop.planning import planner

        return getattr(planner, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
