"""The page of a search for a mixture: the weights first, then how sure they are, from ``summary.json`` alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from isoflop.files import write_text
from isoflop.planning.shape import human
from isoflop.report.document import document
from isoflop.report.figures.mixture import left_out, weights
from isoflop.report.markup import bullets, figure, folded, paragraph, section, table, text
from isoflop.report.numberline import Bar, number_line
from isoflop.report.style import need_matplotlib

Summary = dict[str, Any]


def write_page(folder: Path) -> Path:
    """Write ``report.html`` beside the summary of a search and return its path.

    Raises ValueError when there is no summary, or when matplotlib is not installed.
    """
    need_matplotlib()
    source = folder / "summary.json"
    if not source.exists():
        raise ValueError(f"{folder} holds no finished search for a mixture (no summary.json)")
    path = folder / "report.html"
    write_text(path, page(json.loads(source.read_text()), folder.resolve().name))
    return path


def page(found: Summary, name: str) -> str:
    """The whole page."""
    body = "\n".join([head(found, name), shares(found), trust(found), texts(found), proxies(found)])
    return document(f"{name}: isoflop mix", body, "summary.json of the search, as written")


def head(found: Summary, name: str) -> str:
    """The mixture in a sentence, its gains as intervals, and what to know about them."""
    ordered = sorted(found["sources"], key=lambda source: -source["weight"])
    words = ", ".join(f"{source['weight']:.0%} {source['name']}" for source in ordered if source["weight"] >= 0.005)
    gains = found["gains"].items()
    bars = [Bar(f"over {other}", *middle_of(gain)) for other, gain in gains]
    notes = f'<div class="notes">{bullets(found["statuses"])}</div>' if found["statuses"] else ""
    return "\n".join(
        [
            f'<p class="eyebrow">isoflop mix: {text(name)}</p><h1>{text(words)}</h1>',
            paragraph("Predicted gain of this mixture at the proxies' size, with the 95% interval of its mean:"),
            number_line(bars, None, "nats/token"),
            notes,
        ]
    )


def middle_of(gain: Summary) -> tuple[float, float, float]:
    """The interval of a gain's mean with the gain in the middle."""
    low, high = gain["mean_interval"]
    return low, gain["value"], high


def shares(found: Summary) -> str:
    """Weights and the passes that they mean."""
    settings = found["settings"]
    rows = [
        [
            text(source["name"]),
            f"{source['weight']:.1%}",
            "{:.1%} to {:.1%}".format(*source["interval"]),
            f"{source['natural']:.1%}",
            f"{source['cap']:.1%}",
            human(source["available"]),
            f"{source['epochs']:.2f}",
        ]
        for source in found["sources"]
    ]
    caption = (
        "<b>Chosen shares</b> (dots) with the 95% interval of optima refitted to resampled proxies, natural shares "
        "(diamonds), and caps on repetition (bars)."
    )
    words = (
        f"For a run of {human(settings['target_tokens'])} tokens that repeats no source more than "
        f"{settings['epochs']:g} times; {found['divergence']:.3g} nats from the {settings['prior']} mixture, whose "
        f"pull is {settings['strength']:g} nats of loss a nat."
    )
    names = ("source", "share", "95%", "natural", "cap", "tokens", "epochs")
    return section("The mixture", paragraph(words), figure(caption, weights(found["sources"])), table(names, rows))


def trust(found: Summary) -> str:
    """How well each predictor did on proxies that it had not seen, and what it would choose."""
    names = [source["name"] for source in found["sources"]]
    law = found["predictors"][0]
    rows = [
        [
            text(one["name"]),
            "none" if one["spearman_left_out"] is None else f"{one['spearman_left_out']:.3f}",
            f"{one['error_left_out']:.4f}",
            *(["–"] * len(names) if one["weights"] is None else [f"{share:.1%}" for share in one["weights"]]),
        ]
        for one in found["predictors"]
    ]
    caption = "<b>Every proxy predicted by the law from all the others.</b> On the line, they agree."
    header = ("predictor", "rank correlation", "error, nats", *map(text, names))
    return section("How sure", figure(caption, left_out(found["proxies"], law)), table(header, rows))


def texts(found: Summary) -> str:
    """What the law expects on each held-out text."""
    rows = [
        [text(one["name"]), f"{one['share']:.1%}", f"{one['natural']:.4f}", f"{one['mixture']:.4f}"]
        for one in found["held_out"]
    ]
    return section(
        "What it does to each text",
        paragraph("Losses that the law predicts for a proxy, nats per token; the mixture lowers those with a share."),
        table(("held-out text", "share", "natural", "chosen"), rows),
    )


def proxies(found: Summary) -> str:
    """Every proxy, the best first."""
    names = [source["name"] for source in found["sources"]]
    rows = [
        [text(one["name"]), *(f"{share:.1%}" for share in one["weights"]), f"{one['measured']:.4f}"]
        for one in sorted(found["proxies"], key=lambda one: one["measured"])
    ]
    listing = table(("proxy", *map(text, names), "loss"), rows)
    return section("The proxies", folded(f"{len(rows)} mixtures and what they came to", listing))
