"""Every figure that a study of runs can have, written into a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from isoflop.laws import Fit, IsoFLOPAnalysis, Profile, Validation
from isoflop.report.law_figures.isoflop import isoflop_curves
from isoflop.report.law_figures.optimum import optimum_against_compute
from isoflop.report.law_figures.profile import profile_curve
from isoflop.report.law_figures.residuals import predicted_against_measured, residuals_by_budget
from isoflop.report.law_figures.sheet import Draw, save
from isoflop.report.law_figures.surface import surface_contours
from isoflop.report.law_figures.validation import rolled_forward

Format = Literal["png", "svg", "pdf"]


def write_figures(
    folder: Path,
    fit: Fit[Any],
    isoflop: IsoFLOPAnalysis | None = None,
    *,
    C: float | None = None,
    validation: Validation | None = None,
    profiles: Sequence[Profile] = (),
    suffix: Format = "png",
) -> list[Path]:
    """Draw all that there is into ``folder``, which is made where it is missing; ``C`` is the budget to reach out to.

    A law without a compute-optimal point has no contours and no line among the optima.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = _figures(fit, isoflop, C, validation, profiles)
    return [save(folder / f"{name}.{suffix}", *panels) for name, panels in figures]


def _figures(
    fit: Fit[Any],
    isoflop: IsoFLOPAnalysis | None,
    C: float | None,
    validation: Validation | None,
    profiles: Sequence[Profile],
) -> Iterator[tuple[str, tuple[Draw, ...]]]:
    """The name of each figure and what draws its panels."""
    surface = fit if _has_optimum(fit) else None
    yield "residuals", (partial(predicted_against_measured, fit), partial(residuals_by_budget, fit))
    if isoflop is not None:
        optimum = partial(optimum_against_compute, isoflop, surface, C=C)
        yield "isoflop", (partial(isoflop_curves, isoflop, against="N"), partial(isoflop_curves, isoflop, against="D"))
        yield "optimum", (partial(optimum, what="N"), partial(optimum, what="D"))
    if surface is not None:
        yield "surface", (partial(surface_contours, surface, C=C),)
    if validation is not None:
        yield "validation", (partial(rolled_forward, validation),)
    for profile in profiles:
        yield f"profile-{profile.name}", (partial(profile_curve, profile),)


def _has_optimum(fit: Fit[Any]) -> bool:
    try:
        fit.surface.optimal(float(fit.runs.C.max()))
    except ValueError:
        return False
    return True
