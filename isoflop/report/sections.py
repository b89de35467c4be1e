"""The body of the page, section by section: figures with captions that say what is seen and what it rests on."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from isoflop.laws import LLAMA3_TOKENS, Law
from isoflop.planning.shape import human
from isoflop.progress import spoken
from isoflop.report.data import Array, Dossier, RunRecord
from isoflop.report.figures.isoflop import isoflop_curves
from isoflop.report.figures.law import loss_against_compute, optimum_against_compute
from isoflop.report.figures.residuals import residuals
from isoflop.report.figures.training import flagship_curves, sweep_curves
from isoflop.report.markup import figure, folded, paragraph, section, table, text
from isoflop.report.scales import scientific
from isoflop.sweeps.fit import Fit


def curves(dossier: Dossier) -> str:
    """Section: IsoFLOP curves."""
    title = "Loss at fixed compute"
    if not dossier.results.rows:
        return section(title, paragraph("No cell of the sweep is finished yet."))
    caption = (
        "<b>One curve per budget.</b> Points are finished runs, lines are parabolas in log tokens, diamonds their "
        "minima; the broad and the thin bar through a diamond are its 95% intervals in size and in loss."
    )
    unusable = [c for c in dossier.curves if not c.usable]
    if unusable:
        named = "; ".join(f"{scientific(c.budget)} FLOPs: {text(c.status)}" for c in unusable)
        caption += f" <b>Grey, dashed and left out of the law:</b> {named}."
    return section(title, figure(caption, isoflop_curves(dossier)))


def law(dossier: Dossier) -> str:
    """Section: what the minima follow."""
    title, fit = "The law", dossier.fit
    if fit is None:
        return section(title, paragraph(f"No law yet: {dossier.unfit}."))
    optimum = optimum_caption(fit, planned=dossier.plan is not None)
    return section(
        title,
        figure(optimum, *(optimum_against_compute(dossier, fit, what) for what in ("N", "D"))),
        figure(loss_caption(dossier, fit), loss_against_compute(dossier, fit)),
    )


def optimum_caption(fit: Fit, *, planned: bool) -> str:
    """What N*(C) and D*(C) show, with exponents beside published ones."""
    share, surface = fit.surfaces["matmul"].draw_size_exponent(), fit.surfaces["matmul"].size_exponent
    band = "" if fit.isoflop else ", with its 95% band"
    said = ["<b>The best size and the best number of tokens at each budget.</b>"]
    if fit.isoflop is not None:
        N, D = fit.isoflop.params.exponent, fit.isoflop.tokens.exponent
        N_range, D_range = interval(fit.isoflop.param_draws[:, 1]), interval(fit.isoflop.token_draws[:, 1])
        said.append(
            f"Solid: power laws through the minima, N* ∝ C<sup>{N:.3f}</sup> (95%: {N_range}), "
            f"D* ∝ C<sup>{D:.3f}</sup> ({D_range}), with the 95% band of the law."
        )
    said.append(
        f"Dashed: the surface, N* ∝ C<sup>{surface:.3f}</sup> ({interval(share)}), "
        f"D* ∝ C<sup>{1 - surface:.3f}</sup> ({interval(1 - share)}){band}."
    )
    if planned:
        said.append("Star: the flagship as planned.")
    said.append(
        "For orientation: Hoffmann et al. 2022 give N* ∝ C<sup>0.50</sup> and D* ∝ C<sup>0.50</sup> by their first "
        "approach, 0.49 and 0.51 by their second; Llama 3 gives "
        f"D* ∝ C<sup>{LLAMA3_TOKENS.exponent:.3f}</sup>."
    )
    return " ".join(said)


def interval(draws: Array) -> str:
    """The 95% interval of draws, those without an answer left out."""
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return f"{low:.2f} to {high:.2f}".replace("-", "−")


def formula_html(law: Law) -> str:
    """A law's formula with its powers raised and its numbers shortened."""
    short = re.sub(r"\d+\.?\d*(e[+-]?\d+)?", lambda number: f"{float(number.group()):.4g}", str(law))
    return re.sub(r"\^(-?[\d.]+)", r"<sup>\1</sup>", short)


def loss_caption(dossier: Dossier, fit: Fit) -> str:
    """What L*(C) shows."""
    said = ["<b>The lowest loss at each budget.</b>"]
    if fit.isoflop is not None:
        floor, scale, exponent = fit.isoflop.loss.parameters().values()
        formula = f"({scientific(scale)} / C)<sup>{exponent:.3f}</sup>"
        formula = f"{floor:.3f} + {formula}" if floor else formula
        said.append(
            f"Solid: L*(C) = {formula} (95% for the exponent: {interval(fit.isoflop.loss_draws[:, 2])}), "
            f"with the band that should hold 95% of single runs."
        )
    band = "" if fit.isoflop else ", with the band that should hold 95% of single runs"
    said.append(f"Dashed: the surface's optimum{band}, from {formula_html(fit.surfaces['matmul'].law)}.")
    if dossier.plan is not None:
        said.append("Orange bar: the pooled prediction as written before training.")
    if dossier.score is not None:
        said.append("Star: the flagship as measured.")
    return " ".join(said)


def conventions(dossier: Dossier) -> str:
    """Section: does the plan depend on how parameters are counted?"""
    title = "Counting parameters"
    if dossier.plan is None:
        return section(title, paragraph("There is no plan yet."))
    names = {"matmul": "head counted, input embedding not", "body": "blocks alone, neither head nor embedding"}
    rows = [
        (
            names.get(name, text(name)),
            human(best["N_matmul"]),
            human(best["tokens"]),
            f"{best['tokens'] / best['N_matmul']:.3g}",
            f"{best['loss']:.3f}",
        )
        for name, best in dossier.plan["conventions"].items()
    ]
    head = ("N in the law", "best model", "tokens", "D/N", "expected loss")
    said = "Sizes are given with the head counted in both rows; only the law's N differs."
    return section(
        title, table(head, rows, "named"), paragraph(sentence(dossier.plan["hinges"])), paragraph(said, "small")
    )


def sentence(words: str) -> str:
    """Words with a capital at the front and a full stop at the end."""
    return words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")


def training(dossier: Dossier) -> str:
    """Section: training curves."""
    run, parts = dossier.flagship, []
    if run is None or not run.end:
        parts.append(paragraph("The flagship has not been trained yet."))
    else:
        caption = (
            "<b>The flagship.</b> Training loss, raw (faint) and averaged over equal spans of tokens; points are "
            "validation. Below: the schedule it followed."
        )
        parts.append(figure(caption, flagship_curves(run)))
    if any(run.history.tokens.size for run in dossier.runs):
        caption = "<b>The sweep.</b> " + (
            "Grey: each size's trunk at constant rate, with its parameters; colours: the branches that decay to a "
            "cell of a budget. Points are validation losses, the cells of the first figure."
            if dossier.sweep and dossier.sweep.method == "branch"
            else "Each run in the colour of its budget; points are validation losses, the cells of the first figure."
        )
        parts.append(figure(caption, sweep_curves(dossier)))
    return section("Training", *parts)


def misfit(dossier: Dossier) -> str:
    """Section: residuals."""
    title, fit = "Where the surface misses", dossier.fit
    if fit is None:
        return section(title, paragraph(f"No surface yet: {dossier.unfit}."))
    worst = float(np.abs(np.expm1(fit.surfaces["matmul"].residuals)).max())
    caption = (
        f"<b>Each cell's measured loss over the surface's.</b> The largest miss is {worst:.2%}; the grey band is two "
        f"standard deviations ({2 * fit.surfaces['matmul'].residual_sd:.2%}). Points that bend together as size or "
        f"tokens grow mean that the form is wrong there, which no interval knows of."
    )
    return section(title, figure(caption, *(residuals(dossier, fit, against) for against in ("N", "ratio"))))


def cost(dossier: Dossier) -> str:
    """Section: what was spent."""
    parts = [("sweep", dossier.runs), ("flagship", (dossier.flagship,) if dossier.flagship else ())]
    rows = [cost_row(name, runs) for name, runs in parts if any(run.end for run in runs)]
    if not rows:
        return section("What it cost", paragraph("Nothing has been trained yet."))
    head = ("", "runs", "FLOPs, 6ND", "with attention", "training time", "tokens/s", "precision", "threads", "compiled")
    said = (
        "Time is that of training steps, compiling included; the sweep's is summed over processes that ran side by "
        "side, and its tokens/s are those of one process. A branch does not count its trunk again."
    )
    return section("What it cost", table(head, rows), paragraph(said, "small"))


def cost_row(name: str, runs: Sequence[RunRecord]) -> tuple[str, ...]:
    """Runs, FLOPs, time and speed of a part, and what its finished runs say of how they computed."""
    begun = [run for run in runs if run.end]
    seconds, tokens = sum(run.seconds for run in begun), sum(run.end - run.start for run in begun)
    said = [run.summary for run in begun if run.summary is not None]
    how = [" / ".join(sorted({str(summary.get(key, "?")) for summary in said})) for key in ("precision", "threads")]
    compiled = " / ".join(sorted({"yes" if summary.get("compiled") else "no" for summary in said}))
    return (
        name,
        str(len(begun)),
        scientific(sum(run.flops for run in begun)),
        scientific(sum(run.flops_exact for run in begun)),
        spoken(seconds),
        human(tokens / seconds) if seconds else "",
        text(how[0]),
        text(how[1]),
        compiled,
    )


def samples(dossier: Dossier) -> str:
    """Section: what the flagship writes."""
    if not dossier.samples:
        return ""
    said = "The flagship's own words after each prompt (bold). Characters that cannot be seen are shown by their code."
    texts = [
        f'<div class="sample"><pre><b>{text(prompt)}</b>{text(words)}</pre></div>' for prompt, words in dossier.samples
    ]
    return section("What it writes", paragraph(said, "small"), *texts)


def cells(dossier: Dossier) -> str:
    """Section: every cell, and the configuration, both folded."""
    configuration = folded("The configuration (experiment.toml)", f"<pre>{text(dossier.settings)}</pre>")
    if not dossier.results.rows:
        return section("Everything else", configuration)
    runs = {run.name: run for run in dossier.runs}
    head = (
        "budget",
        "shape",
        "N head counted",
        "N total",
        "N blocks",
        "tokens",
        "D/N",
        "steps",
        "loss",
        "bits/byte",
        "s",
    )
    rows = []
    for row in dossier.results.rows:
        run = runs[row.path]
        key = f'<i class="key" style="background:var(--b{dossier.budget_index(row.budget)})"></i>'
        shape, summary = run.config.shape, run.summary or {}
        rows.append(
            (
                key + scientific(row.budget),
                f"{shape.layers} × {shape.width}",
                *(f"{n:,}" for n in (row.N_matmul, row.N_total, row.N_body, row.tokens)),
                f"{row.tokens / row.N_matmul:.1f}",
                f"{summary.get('steps', 0):,}",
                f"{row.loss:.4f}",
                f"{row.bpb:.4f}",
                f"{run.seconds:.1f}",
            )
        )
    said = "Shape is layers × width; s is the run's own training time, its trunk's not counted again."
    body = table(head, rows) + paragraph(said, "small")
    return section("Everything else", folded(f"All {len(rows)} finished cells", body), configuration)
