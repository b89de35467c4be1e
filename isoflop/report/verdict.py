"""The head of the page: the verdict before everything else, then the key figures and what to know about them.

Numbers come from the plan and the score as they were written; nothing is recomputed. While parts are missing, the
same place says how far the experiment has come.
"""

from __future__ import annotations

from datetime import UTC, datetime

from isoflop.planning.shape import human
from isoflop.progress import spoken
from isoflop.report.data import Dossier
from isoflop.report.markup import bullets, folded, paragraph, text
from isoflop.report.numberline import Bar, number_line
from isoflop.report.scales import scientific

NOTES = 5
"""Notes that are shown without opening anything."""


def head(dossier: Dossier) -> str:
    """Verdict, number line, key figures, notes."""
    return "\n".join(
        [headline(dossier), numbers(dossier), line(dossier), written(dossier), facts(dossier), notes(dossier)]
    )


def headline(dossier: Dossier) -> str:
    """The one sentence: inside, outside, or where the experiment stands."""
    eyebrow = f'<p class="eyebrow">isoflop report: {text(dossier.name)}</p>'
    score = dossier.score
    if score is None:
        return f"{eyebrow}<h1>{text(standing(dossier))}</h1>"
    place, kind = "inside", "good"
    if not score["inside"]:
        place, kind = "above" if score["log_error"] > 0 else "below", "bad"
    return f'{eyebrow}<h1>The measured loss is <span class="{kind}">{place}</span> the predicted interval</h1>'


def standing(dossier: Dossier) -> str:
    """How far an unfinished experiment has come."""
    if dossier.plan is None:
        done, all_cells = len(dossier.results.rows), len(dossier.results.rows) + dossier.results.missing
        if not all_cells:
            return "No verdict yet: the sweep has not begun"
        if dossier.results.missing:
            return f"No verdict yet: {done} of {all_cells} cells of the sweep are finished"
        return "No verdict yet: the sweep is finished, the flagship is not planned"
    run = dossier.flagship
    if run is None or not run.end:
        return "No verdict yet: the flagship is planned, not trained"
    if run.summary is None:
        return f"No verdict yet: the flagship has seen {run.end / run.config.schedule.tokens:.0%} of its tokens"
    return "No verdict yet: the flagship is trained, not scored"


def numbers(dossier: Dossier) -> str:
    """Predicted, measured, error: large."""
    if dossier.plan is None:
        return ""
    score = dossier.score
    predicted = score["predicted"] if score else dossier.plan["predicted_loss"]
    low, high = score["interval_95"] if score else dossier.plan["interval_95"]
    items = [("predicted", f"{predicted:.3f}", f"95%: {low:.3f} to {high:.3f}")]
    if score:
        where = "inside the interval" if score["inside"] else "outside the interval"
        items += [
            ("measured", f"{score['measured']:.3f}", "nats/token, validation"),
            ("error", f"{score['log_error']:+.1%}".replace("-", "−"), where),
        ]
    return f'<dl class="verdict">{terms(items)}</dl>'


def terms(items: list[tuple[str, str, str]]) -> str:
    """Name, value and small print of each item."""
    return "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}<small>{text(note)}</small></dd></div>"
        for name, value, note in items
    )


def line(dossier: Dossier) -> str:
    """The number line of the prediction and of each method by itself."""
    if dossier.plan is None:
        return ""
    plan, score = dossier.plan, dossier.score
    low, high = score["interval_95"] if score else plan["interval_95"]
    bars = [Bar("prediction", low, score["predicted"] if score else plan["predicted_loss"], high, main=True)]
    if score:
        bars += [Bar(name, m["interval_95"][0], m["loss"], m["interval_95"][1]) for name, m in score["methods"].items()]
    else:
        bars += [Bar(r["method"], r["interval"][0], r["loss"], r["interval"][1]) for r in plan["readings"]]
    return number_line(bars, score["measured"] if score else None, "nats/token")


def written(dossier: Dossier) -> str:
    """When the prediction was written, and the verdict in its own words."""
    if dossier.plan is None:
        return ""
    said = f"Verdict: {dossier.score['verdict']}. " if dossier.score else ""
    if "written" in dossier.plan:
        when = datetime.fromtimestamp(dossier.plan["written"], UTC)
        said += f"The prediction was written on {when:%Y-%m-%d at %H:%M} UTC, before the flagship's first step. "
    said += "Bars are 95% prediction intervals for one run; the first pools the methods below it."
    return paragraph(said, "small")


def facts(dossier: Dossier) -> str:
    """The key figures in a row."""
    plan, items = dossier.plan, []
    if plan is not None:
        shape = plan["shape"]
        items += [
            ("flagship", human(plan["N_matmul"]), f"parameters: {shape['layers']} layers, width {shape['width']}"),
            ("tokens", human(plan["tokens"]), passes(plan)),
            ("tokens/parameter", f"{plan['tokens_per_parameter']:.3g}", "head counted"),
            ("budget", scientific(plan["budget"]), "FLOPs, 6ND"),
        ]
        if dossier.budgets:
            items.append(("reach", f"{plan['budget'] / dossier.budgets[-1]:.3g}×", "the sweep's largest budget"))
    elif dossier.budgets:
        items += [
            (
                "budgets",
                str(len(dossier.budgets)),
                f"{scientific(dossier.budgets[0])} to {scientific(dossier.budgets[-1])} FLOPs",
            ),
            ("cells finished", str(len(dossier.results.rows)), f"{dossier.results.missing} to come"),
        ]
    if dossier.score:
        items.append(("bits per byte", f"{dossier.score['measured_bpb']:.3f}", "validation"))
    if dossier.seconds is not None:
        items.append(("total time", spoken(dossier.seconds), "wall clock, everything"))
    return f'<dl class="facts">{terms(items)}</dl>' if items else ""


def passes(plan: dict[str, float]) -> str:
    """How often the flagship goes over its corpus."""
    return f"{plan['epochs']:.2g} passes over the corpus" if "epochs" in plan else ""


def notes(dossier: Dossier) -> str:
    """What the fits said about themselves, word for word; what concerns the second convention of N comes last."""
    said = sorted(dossier.statuses, key=lambda status: status.startswith("surface (body)"))
    if not said:
        return ""
    rest = folded(f"and {len(said) - NOTES} more", bullets(said[NOTES:])) if len(said) > NOTES else ""
    return f'<div class="notes">{paragraph("What the fits say about themselves:")}{bullets(said[:NOTES])}{rest}</div>'
