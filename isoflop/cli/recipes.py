"""``isoflop recipes``: the recipes that ship, and one of them to begin a config of one's own from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

DESCRIPTION = """Lists the recipes that ship, or prints one with its sources. A recipe ending in -tiny has the schedules
of the one it is named after, scaled down to minutes on a small machine.

examples:
  isoflop recipes
  isoflop recipes llama3-405b
  isoflop recipes llama3-8b-tiny --write mine.toml      then: isoflop train runs/mine --config mine.toml
  isoflop train runs/mine --recipe llama2-7b-tiny --data tokens/
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop recipes``.

    Attributes:
        name: The recipe to print; all are listed without one.
        write: File to write it to instead.
    """

    name: tyro.conf.Positional[str | None] = None
    write: Path | None = None


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop recipes", description=DESCRIPTION)
    from isoflop.training import recipes

    if a.name is None:
        if a.write is not None:
            raise ValueError("which recipe? isoflop recipes lists them")
        from isoflop.cli.tables import show

        show(("recipe", "parameters", "tokens", "contexts", "schedule"), [line(name) for name in recipes.names()])
        return
    content = recipes.text(a.name)
    if a.write is None:
        print(content, end="")
        return
    if a.write.exists():
        raise ValueError(f"{a.write} is there already; give another file")
    from isoflop.files import write_text

    write_text(a.write, content)
    print(a.write)


def line(name: str) -> tuple[str, ...]:
    """A recipe's line in the list."""
    from isoflop.planning.shape import human
    from isoflop.training.recipes import recipe

    config = recipe(name)
    contexts = " → ".join(human(context) for context in dict.fromkeys((config.contexts.first, config.contexts.last)))
    kinds = ", ".join(phase.kind for phase in config.schedule.descent)
    return name, human(config.shape.total), human(config.schedule.tokens), contexts, kinds
