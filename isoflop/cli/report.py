"""``isoflop report``: the HTML report of an experiment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

DESCRIPTION = """Writes report.html from an experiment's directory, finished or not.

examples:
  isoflop report runs/quickstart
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop report``.

    Attributes:
        experiment: Directory of the experiment.
    """

    experiment: tyro.conf.Positional[Path]


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop report", description=DESCRIPTION)
    from isoflop.report.page import write_page

    print(write_page(a.experiment))
