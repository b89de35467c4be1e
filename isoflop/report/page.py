"""The report of an experiment: one HTML file that needs nothing else, from the experiment's directory alone.

It leads with the verdict. It works at any stage of an experiment, saying what is not there yet, and the same
directory always gives the same bytes. No scripts, no outside resources: it opens from a disk, on a phone, on paper.
Costs the fit and the drawing, a few seconds. Left out: anything live; run it again to see more.
"""

from __future__ import annotations

from pathlib import Path

from isoflop.files import write_text
from isoflop.report import sections
from isoflop.report.data import Dossier, read_dossier
from isoflop.report.document import document
from isoflop.report.style import need_matplotlib
from isoflop.report.verdict import head

BODY = (
    sections.curves,
    sections.law,
    sections.conventions,
    sections.training,
    sections.misfit,
    sections.cost,
    sections.samples,
    sections.cells,
)


def write_page(folder: Path) -> Path:
    """Write ``report.html`` into an experiment's directory and return its path.

    Raises ValueError when the directory holds no experiment, or when matplotlib is not installed.
    """
    need_matplotlib()
    path = folder / "report.html"
    write_text(path, page(read_dossier(folder)))
    return path


def page(dossier: Dossier) -> str:
    """The whole page."""
    body = head(dossier) + "\n" + "".join(part(dossier) for part in BODY)
    source = "laws refitted from the run directories, prediction and verdict as written"
    return document(f"{dossier.name}: isoflop report", body, source, len(dossier.budgets))
