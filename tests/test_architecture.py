"""The rooms keep to the map in docs/design.md: arrows go down only, and what must answer at once never loads torch."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "isoflop"
MAY_IMPORT = {
    "laws": set(),
    "planning": {"laws"},
    "corpus": set(),
    "tokens": {"corpus"},
    "model": {"planning"},
    "training": {"model", "tokens", "planning"},
    "inference": {"training", "model", "tokens", "planning"},
    "problems": set(),
    "evaluation": {"inference", "problems", "training", "model", "tokens", "planning"},
    "posttraining": {"evaluation", "inference", "problems", "training", "model", "tokens", "corpus", "planning"},
    "sweeps": {"training", "tokens", "planning", "laws"},
    "mixing": {"sweeps", "training", "model", "tokens", "planning", "laws"},
    "report": {"sweeps", "training", "planning", "laws"},
    "experiment": {"report", "sweeps", "inference", "training", "tokens", "planning", "laws"},
    "cli": {
        "experiment",
        "report",
        "posttraining",
        "evaluation",
        "problems",
        "mixing",
        "sweeps",
        "inference",
        "training",
        "tokens",
        "corpus",
        "planning",
        "laws",
    },
}
WITHOUT_TORCH = ("laws", "planning", "corpus", "tokens", "problems", "sweeps", "report")


def imports(file: Path) -> set[str]:
    """The modules a file imports, absolute, those inside functions included."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_room_imports_only_the_rooms_below_it(room: str) -> None:
    files = list((PACKAGE / room).rglob("*.py"))
    assert files
    for file in files:
        rooms = {module.split(".")[1] for module in imports(file) if module.startswith("isoflop.")} & MAY_IMPORT.keys()
        assert rooms <= MAY_IMPORT[room] | {room}, file


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_room_that_must_answer_at_once_does_not_know_torch(room: str) -> None:
    for file in (PACKAGE / room).rglob("*.py"):
        assert not {module for module in imports(file) if module.split(".")[0] == "torch"}, file


def test_every_room_is_on_the_map() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert rooms == set(MAY_IMPORT)
    page = (PACKAGE.parent / "docs" / "design.md").read_text()
    assert all(f"`{room}/`" in page for room in rooms)
