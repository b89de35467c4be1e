"""Figures of the rounds of post-training: accuracy by round, and likelihoods under DPO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from isoflop.report.style import ACCENT, INK, PAPER, SECOND, SOFT, WIDE, budget_colour, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS = {"sft-random": (-0.2, SOFT), "sft": (-0.1, INK), "average": (0.2, ACCENT)}
"""Where a candidate stands beside its round's number, and its colour; variants of DPO stand between."""


def accuracies(stages: Sequence[Mapping[str, Any]]) -> str:
    """Test accuracy of all candidates with intervals, those chosen joined by a line."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        chosen = []
        for stage in stages:
            for name, each in stage["candidates"].items():
                if name == "before":
                    continue
                beside, colour = LOOKS.get(name, (0.05, SECOND))
                test, x = each["test"], stage["round"] + beside
                axes.plot([x, x], [test["low"], test["high"]], color=colour, lw=0.8)
                axes.plot(x, test["value"], "o", ms=3.6, color=colour, mec=PAPER, mew=0.4)
                if name == stage["chosen"]:
                    chosen.append((x, test["value"]))
        axes.plot(*zip(*chosen, strict=True), color=SOFT, lw=0.8, zorder=0)
        for words, colour in (
            ("fine-tuned on random answers", SOFT),
            ("fine-tuned on chosen answers", INK),
            ("DPO", SECOND),
            ("average", ACCENT),
        ):
            axes.plot([], [], "o", ms=3.6, color=colour, label=words)
        axes.legend(loc="lower right")
        axes.set_xticks([stage["round"] for stage in stages])
        axes.set_xlim(-0.5, stages[-1]["round"] + 0.5)
        axes.set_xlabel("round")
        axes.set_ylabel("share of held-out problems solved")

    return render("rounds", "Share of held-out problems solved, by round and candidate", WIDE, draw)


def likelihoods(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """How far better and worse answers moved from the reference, nats a token, over the steps of each stage."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for number, (name, lines) in enumerate(histories.items()):
            steps, colour = [line["step"] for line in lines], budget_colour(number)
            axes.plot(steps, [line["chosen_shift"] for line in lines], color=colour, label=name)
            axes.plot(steps, [line["rejected_shift"] for line in lines], color=colour, ls="--", lw=0.8)
        axes.axhline(0, color=SOFT, lw=0.5)
        axes.legend(loc="lower left", ncols=2)
        axes.set_xlabel("step")
        axes.set_ylabel("log-likelihood against the start, nats/token")

    return render("likelihoods", "Likelihoods of better and worse answers over DPO", WIDE, draw)
