"""The figures of laws show the numbers of the results, and their words neither collide nor leave the page."""

from __future__ import annotations

import itertools
import subprocess
import sys
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from isoflop import laws
from isoflop.report.law_figures import (
    isoflop_curves,
    optimum_against_compute,
    predicted_against_measured,
    profile_curve,
    residuals_by_budget,
    rolled_forward,
    surface_contours,
    write_figures,
)
from isoflop.report.law_figures.profile import interval_in_words
from isoflop.report.law_figures.sheet import LOOKS, PANEL, SIZE
from isoflop.report.law_figures.validation import means

matplotlib.use("agg")
SHARED = Path(__file__).resolve().parents[2] / "shared"
POINTS = SHARED / "data" / "scaling" / "llama3" / "isoflops_points.csv"


def made_runs(noise: float = 2e-3) -> laws.Runs:
    """Five budgets of six sizes from a known surface."""
    rng = np.random.default_rng(1)
    C = np.repeat(np.geomspace(1e18, 1e20, 5), 6)
    N = np.array([laws.BESIROGLU_2024.optimal(c).N for c in C]) * np.tile(np.geomspace(0.25, 4, 6), 5)
    D = C / 6 / N
    loss = laws.BESIROGLU_2024.loss(N, D) * np.exp(noise * rng.standard_normal(C.size))
    return laws.read_runs({"N": N, "D": D, "C": C, "loss": loss})


@pytest.fixture(scope="module")
def runs() -> laws.Runs:
    return made_runs()


@pytest.fixture(scope="module")
def fit(runs: laws.Runs) -> laws.Fit[laws.Chinchilla]:
    return laws.fit(runs, replicates=100)


@pytest.fixture(scope="module")
def analysis(runs: laws.Runs) -> laws.IsoFLOPAnalysis:
    return laws.analyse(runs.C, runs.N, runs.D, runs.loss, replicates=100)


@pytest.fixture(scope="module")
def validation(runs: laws.Runs) -> laws.Validation:
    return laws.validate(runs, [laws.Chinchilla, laws.PoweredSum], replicates=20)


def words_of(figure: Figure) -> list[tuple[str, Any]]:
    """Every visible text of a figure, with its box in pixels; ticks outside an axis are not drawn."""
    figure.draw_without_rendering()
    hidden = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            seen = low * (1 - 1e-9) <= tick.get_loc() <= high * (1 + 1e-9)
            hidden |= {tick.label2} if seen else {tick.label1, tick.label2}
    texts = [text for text in figure.findobj(Text) if text not in hidden and text.get_visible()]
    return [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text().strip()]


def assert_readable(figure: Figure) -> None:
    """Nothing is cut off, and no two words overlap."""
    page = figure.bbox
    words = words_of(figure)
    assert len(words) > 4
    for text, box in words:
        assert box.x0 >= page.x0 - 1, text
        assert box.x1 <= page.x1 + 1, text
        assert box.y0 >= page.y0 - 1, text
        assert box.y1 <= page.y1 + 1, text
    for (a, first), (b, second) in itertools.combinations(words, 2):
        wide = min(first.x1, second.x1) - max(first.x0, second.x0)
        high = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert wide < 2 or high < 2, (a, b)


def sheets(*draws) -> Figure:
    with matplotlib.rc_context(LOOKS):
        size = SIZE if len(draws) == 1 else (PANEL[0] * len(draws), PANEL[1])
        figure = Figure(figsize=size, layout="constrained")
        for axes, draw in zip(figure.subplots(1, len(draws), squeeze=False)[0], draws, strict=True):
            assert draw(axes=axes) is axes
    return figure


@pytest.mark.parametrize("against", ["N", "D"])
def test_isoflop_curves_mark_the_minima(analysis, against):
    figure = sheets(partial(isoflop_curves, analysis, against=against))
    assert_readable(figure)
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "D"]
    expected = [(c.N_star if against == "N" else c.D_star, c.loss_star) for c in analysis.curves]
    drawn = [(line.get_xdata()[0], line.get_ydata()[0]) for line in marks]
    assert np.array(drawn) == pytest.approx(np.array(expected))
    assert {"10¹⁸", "10²⁰"} <= {text for text, _ in words_of(figure)}


def test_a_curve_without_a_minimum_is_open_and_dashed(runs):
    middle = np.median(runs.N[:6])
    one_sided = runs.take((np.arange(len(runs)) >= 6) | (middle < runs.N))
    analysis = laws.analyse(one_sided.C, one_sided.N, one_sided.D, one_sided.loss, replicates=0)
    assert not analysis.curves[0].usable
    axes = sheets(partial(isoflop_curves, analysis)).axes[0]
    assert sum(line.get_marker() == "D" for line in axes.lines) == 4
    assert axes.lines[0].get_markerfacecolor() == LOOKS["axes.facecolor"]
    assert axes.lines[1].is_dashed()


@pytest.mark.parametrize("what", ["N", "D"])
def test_the_optimum_reaches_the_budget_that_is_asked_with_both_methods(analysis, fit, what):
    figure = sheets(partial(optimum_against_compute, analysis, fit, what=what, C=1e22))
    assert_readable(figure)
    minima, surface = figure.axes[0].lines[:2]
    law = analysis.params if what == "N" else analysis.tokens
    assert minima.get_xdata()[-1] == pytest.approx(1e22)
    assert minima.get_ydata()[-1] == pytest.approx(law(1e22))
    assert surface.get_ydata()[-1] == pytest.approx(getattr(fit.law.optimal(1e22), what))
    assert len(figure.axes[0].collections) == 2  # the bands


def test_without_draws_there_are_no_bands(runs):
    analysis = laws.analyse(runs.C, runs.N, runs.D, runs.loss, replicates=0)
    figure = sheets(partial(optimum_against_compute, analysis, laws.fit(runs)))
    assert_readable(figure)
    assert len(figure.axes[0].collections) == 0


def test_the_contours_frontier_is_the_laws_optimum(fit):
    figure = sheets(partial(surface_contours, fit, C=1e22))
    assert_readable(figure)
    frontier = figure.axes[0].lines[0]
    for C, N in zip(frontier.get_xdata()[::40], frontier.get_ydata()[::40], strict=True):
        assert pytest.approx(fit.law.optimal(C).N) == N
    assert figure.axes[0].get_xlim()[1] > 1e22


def test_contours_stand_where_the_law_has_their_loss(fit):
    axes = sheets(partial(surface_contours, fit)).axes[0]
    lines = axes.collections[1]
    for level, path in list(zip(lines.levels, lines.get_paths(), strict=True))[2:-2:3]:
        C, N = path.vertices[len(path.vertices) // 2]
        assert fit.law.loss(N, C / 6 / N) == pytest.approx(level, rel=2e-3)


def test_a_law_without_an_optimum_has_no_contours(runs):
    fit = laws.fit(runs, laws.SaturatingPowerLaw, x="C")
    with pytest.raises(ValueError, match="not a law of N and D"):
        surface_contours(fit)


def test_residuals_are_the_fits_own(fit):
    figure = sheets(partial(predicted_against_measured, fit), partial(residuals_by_budget, fit))
    assert_readable(figure)
    scatter, left = (axes.collections for axes in figure.axes[:2])
    measured, predicted = scatter[0].get_offsets().T
    assert np.log(np.array(measured / predicted)) == pytest.approx(fit.residuals)
    assert np.array(left[-1].get_offsets())[:, 1] == pytest.approx(100 * np.expm1(fit.residuals))


def test_a_run_far_off_is_drawn_at_the_edge_and_said(runs):
    loss = runs.loss.copy()
    loss[7] *= 1.3
    fit = laws.fit({"N": runs.N, "D": runs.D, "C": runs.C, "loss": loss})
    figure = sheets(partial(residuals_by_budget, fit))
    assert_readable(figure)
    assert "1 of 30 runs" in figure.axes[0].get_title()
    up = next(line for line in figure.axes[0].lines if line.get_marker() == "^")
    assert up.get_xdata() == pytest.approx([runs.C[7]])


def test_rolled_forward_shows_every_hold_out_and_each_forms_mean(validation):
    figure = sheets(partial(rolled_forward, validation))
    assert_readable(figure)
    axes = figure.axes[0]
    dots = sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() == "o")
    assert dots == len(validation.holdouts)
    told = [text.get_text() for text in axes.get_legend().get_texts()]
    assert told == [f"{score.form}: {score.error:.2%}" for score in validation.scores]


def test_means_are_of_like_reach():
    x, y = means(np.array([2.0, 2.0, 4.0, 64.0]), np.array([1.0, 3.0, 5.0, 7.0]))
    assert x == pytest.approx([2, 4, 64])
    assert y == pytest.approx([2, 5, 7])


def test_a_profile_shades_its_interval(fit):
    profile = laws.profile(fit, "alpha")
    figure = sheets(partial(profile_curve, profile))
    assert_readable(figure)
    curve = figure.axes[0].lines[0]
    low, high = profile.interval()
    limit = next(line.get_ydata()[0] for line in figure.axes[0].lines[3:])
    assert np.interp([low, high], curve.get_xdata(), curve.get_ydata()) == pytest.approx([limit, limit], rel=0.02)
    assert min(curve.get_ydata()) == pytest.approx(0, abs=1e-6)


def test_open_ends_are_said():
    assert interval_in_words(0.0, 3.0) == "at most 3"
    assert interval_in_words(2.0, np.inf) == "at least 2"
    assert interval_in_words(0.0, np.inf) == "no limit on either side"
    assert interval_in_words(2.0, 3.0) == "2 to 3"


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_everything_there_is_is_written(tmp_path, fit, analysis, validation, suffix):
    profiles = [laws.profile(fit, "beta")]
    paths = write_figures(tmp_path / "out", fit, analysis, validation=validation, profiles=profiles, suffix=suffix)
    names = ["residuals", "isoflop", "optimum", "surface", "validation", "profile-beta"]
    assert [path.name for path in paths] == [f"{name}.{suffix}" for name in names]
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert all(path.read_bytes().startswith(begins) for path in paths)
    if suffix == "svg":
        assert all(ET.parse(path).getroot().tag.endswith("svg") for path in paths)


def test_a_law_of_one_variable_has_residuals_and_the_minima_alone(tmp_path, runs, analysis):
    fit = laws.fit(runs, laws.SaturatingPowerLaw, x="C")
    names = [path.stem for path in write_figures(tmp_path, fit, analysis)]
    assert names == ["residuals", "isoflop", "optimum"]


def test_without_axes_a_figure_of_pyplot_is_made(fit):
    import matplotlib.pyplot as plt

    axes = residuals_by_budget(fit)
    assert plt.gcf() is axes.figure
    plt.close(axes.figure)


def test_importing_the_figures_does_not_import_matplotlib():
    code = "import sys, isoflop.report.law_figures; print('matplotlib' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.skipif(not POINTS.is_file(), reason="the published points are not here")
def test_the_figures_of_llama_3_are_readable():
    runs = laws.read_runs(POINTS)
    analysis = laws.analyse(runs.C, runs.N, runs.D, runs.loss, replicates=200)
    fit = laws.fit(runs, replicates=200)
    for panels in (
        [partial(isoflop_curves, analysis, against="N"), partial(isoflop_curves, analysis, against="D")],
        [partial(optimum_against_compute, analysis, fit, what=what, C=4e25) for what in ("N", "D")],
        [partial(surface_contours, fit)],
        [partial(surface_contours, fit, C=4e25)],
        [partial(predicted_against_measured, fit), partial(residuals_by_budget, fit)],
    ):
        assert_readable(sheets(*panels))
