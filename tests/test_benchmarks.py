"""What benchmarks take from isoflop and from each other is there under that name. None is run, no peer imported."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


def imports(file: Path) -> Iterator[tuple[str, str | None]]:
    """Module and name of every import in a file, those inside functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_a_benchmark_imports_from_isoflop_is_there(file: Path) -> None:
    found = [(module, name) for module, name in imports(file) if module.split(".")[0] == "isoflop"]
    assert found, "a benchmark of something else"
    for module, name in found:
        there = importlib.import_module(module)
        if name is not None and not hasattr(there, name):
            assert name in {child.name for child in pkgutil.iter_modules(there.__path__)}, f"{module}.{name} is gone"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_a_benchmark_imports_from_another_is_there(file: Path) -> None:
    others = {other.stem: ast.parse(other.read_text(encoding="utf-8")) for other in FILES}
    for module, name in imports(file):
        if module in others and name is not None:
            defined = {
                each.id if isinstance(each, ast.Name) else getattr(each, "name", None)
                for node in others[module].body
                for each in (*getattr(node, "targets", ()), node)
            }
            assert name in defined, f"{module}.{name} is gone"
