"""``isoflop report``: the HTML report of an experiment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

DESCRIPTION = """Writes report.html from the directory of an experiment, finished or not, of rounds of post-training, or
of a finished cleaning.

examples:
  isoflop report runs/quickstart
  isoflop report runs/aligned
  isoflop report clean/
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop report``.

    Attributes:
        experiment: Directory of the experiment, the rounds or the cleaning.
    """

    experiment: tyro.conf.Positional[Path]


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop report", description=DESCRIPTION)
    if not a.experiment.is_dir():
        raise ValueError(f"there is no directory {a.experiment}")
    if (a.experiment / "clean.toml").exists():
        from isoflop.report.cleaning import write_cleaning_page

        print(write_cleaning_page(a.experiment))
        return
    if (a.experiment / "align.toml").exists():
        from isoflop.report.align_page import write_page as write_align_page

        print(write_align_page(a.experiment))
        return
    from isoflop.report.page import write_page

    print(write_page(a.experiment))
