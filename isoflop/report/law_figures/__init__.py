"""Figures of laws in the manner of the papers, for files and notebooks.

    >>> axes = isoflop_curves(laws.analyse(C, N, D, loss))
    >>> axes.figure.savefig("isoflop.svg")

Every function takes results and optionally the Axes to draw on, and returns the Axes; without one it makes a new figure
with pyplot. :func:`write_figures` puts all that a study of runs has into a folder. matplotlib is imported by the
functions, so importing this costs nothing.
"""

from isoflop.report.law_figures.files import write_figures
from isoflop.report.law_figures.isoflop import isoflop_curves
from isoflop.report.law_figures.optimum import optimum_against_compute
from isoflop.report.law_figures.profile import profile_curve
from isoflop.report.law_figures.residuals import predicted_against_measured, residuals_by_budget
from isoflop.report.law_figures.surface import surface_contours
from isoflop.report.law_figures.validation import rolled_forward

__all__ = [
    "isoflop_curves",
    "optimum_against_compute",
    "predicted_against_measured",
    "profile_curve",
    "residuals_by_budget",
    "rolled_forward",
    "surface_contours",
    "write_figures",
]
