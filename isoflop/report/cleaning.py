"""The report of a cleaning: what went, what stayed, why, and documents to judge it by, as one HTML file.

Reads ``summary.json``, ``examples.json``, ``timing.json`` and ``clean.toml`` of a cleaning's folder and nothing else.
No scripts, no outside resources, no matplotlib.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from isoflop.files import write_text
from isoflop.progress import spoken
from isoflop.report import examples, flow
from isoflop.report.document import document
from isoflop.report.flow import Reach
from isoflop.report.markup import figure, folded, paragraph, section, table, text
from isoflop.report.scales import data_size, percent

GROUPS, REASONS = 40, 15
"""The rows that are shown at once."""
KINDS = ("dropped", "kept", "edited")

RULES = """
main{max-width:58rem}.named td:first-child{min-width:13rem;overflow-wrap:anywhere}
.facts{grid-template-columns:repeat(auto-fill,minmax(6.6rem,1fr))}
td .who{white-space:nowrap}
.share{display:inline-block;height:.55em;border-radius:.15em;background:var(--second);opacity:.6;margin-right:.5em}
.share.lost{background:var(--accent)}
"""


@dataclass(frozen=True)
class Cleaning:
    """A cleaning as its folder tells it; ``seconds`` is by stage, summed over processes."""

    name: str
    config: str
    summary: dict[str, Any]
    examples: list[dict[str, Any]]
    seconds: dict[str, float]

    @property
    def stages(self) -> list[tuple[str, dict[str, Any]]]:
        """Every stage's label and account, in order."""
        return list(self.summary["stages"].items())


def read_cleaning(folder: Path) -> Cleaning:
    """Read the folder of a cleaning that is done. Raises ValueError if it is not."""
    if not (folder / "summary.json").exists():
        raise ValueError(f"{folder} holds no finished cleaning: run isoflop clean until it is done")
    summary, shown, seconds = (
        json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("summary", "examples", "timing")
    )
    return Cleaning(folder.name, (folder / "clean.toml").read_text(encoding="utf-8"), summary, shown, seconds)


def write_cleaning_page(folder: Path) -> Path:
    """Write ``report.html`` into the folder of a finished cleaning and return its path."""
    path = folder / "report.html"
    write_text(path, page(read_cleaning(folder)))
    return path


def page(cleaning: Cleaning) -> str:
    """The whole page."""
    parts = (head, current, stages, reasons, groups, documents, configuration)
    body = "".join(part(cleaning) for part in parts)
    rules = RULES + flow.RULES + examples.RULES
    said = "bytes are UTF-8 text; which documents are shown was decided by a keyed hash of each"
    return document(f"{cleaning.name}: cleaning report", body, said, rules=rules)


def head(cleaning: Cleaning) -> str:
    """The title and the key figures."""
    read, kept = cleaning.summary["read"], cleaning.summary["kept"]
    bad = f"{read['bad']:,} of {read['records']:,}"
    edited = sum(account["edited"]["documents"] for _, account in cleaning.stages)
    facts = [
        ("documents", f"{kept['documents']:,}", f"of {read['documents']:,}"),
        ("text kept", data_size(kept["bytes"]), f"of {data_size(read['bytes'])}"),
        ("mean size", data_size(_mean(kept)), f"{data_size(_mean(read))} before"),
        ("edits", f"{edited:,}", "counted in every stage"),
        ("bad records", f"{read['bad']:,}", f"{bad} set aside" if read["bad"] else "none set aside"),
        ("stages' time", spoken(sum(cleaning.seconds.values())), "summed over processes"),
    ]
    if read.get("damaged"):
        facts.append(("damaged files", f"{read['damaged']:,}", f"of {data_size(read['damaged_bytes'])} on disk"))
    if read.get("links"):
        facts.append(("links out", f"{read['links']:,}", "not followed"))
    if read["beyond_sample"]:
        facts.append(("sample", percent(read["documents"], read["documents"] + read["beyond_sample"]), "of documents"))
    cells = "".join(f"<div><dt>{a}</dt><dd>{text(b)}<small>{text(c)}</small></dd></div>" for a, b, c in facts)
    share = percent(kept["bytes"], read["bytes"])
    return (
        f'<p class="eyebrow">isoflop: cleaning of {text(cleaning.name)}</p>'
        f'<h1>{share} of the text stays</h1><dl class="facts">{cells}</dl>'
    )


def _mean(tally: dict[str, int]) -> float:
    return tally["bytes"] / max(1, tally["documents"])


def current(cleaning: Cleaning) -> str:
    """Section: the river of bytes through the stages."""
    read, kept = cleaning.summary["read"], cleaning.summary["kept"]
    drawn = flow.river(f"{data_size(read['bytes'])} read", list(_reaches(cleaning)), f"{data_size(kept['bytes'])} kept")
    caption = "The river is as wide as the bytes that are left; percentages are of what reached the stage."
    return section("What went where", figure(text(caption), drawn))


def _reaches(cleaning: Cleaning) -> Iterator[Reach]:
    whole = max(1, cleaning.summary["read"]["bytes"])
    for label, account in cleaning.stages:
        received, kept, edited = account["received"], account["kept"], account["edited"]
        lost, gone = received["bytes"] - kept["bytes"], received["documents"] - kept["documents"]
        told = [f"{gone:,} documents dropped"] if gone else []
        told += [f"{edited['documents']:,} edited"] if edited["documents"] else []
        yield Reach(
            label[3:],
            f"shown {percent(account['judged']['bytes'], received['bytes'])}" if account["judged"] != received else "",
            received["bytes"] / whole,
            kept["bytes"] / whole,
            f"−{data_size(lost)} · {percent(lost, received['bytes'])}" if lost > 0 else "",
            ", ".join(told) or "nothing changed",
        )


def stages(cleaning: Cleaning) -> str:
    """Section: a table of the stages."""
    rows = []
    for label, account in cleaning.stages:
        received, kept, edited = account["received"], account["kept"], account["edited"]
        spent = sum(seconds for name, seconds in cleaning.seconds.items() if name.split(".")[0] == label)
        gone, lost = received["documents"] - kept["documents"], received["bytes"] - kept["bytes"]
        rows.append(
            (
                text(label),
                f"{received['documents']:,}",
                f"{gone:,}",
                percent(gone, received["documents"]),
                f"{edited['documents']:,}",
                data_size(received["bytes"]),
                data_size(lost),
                percent(lost, received["bytes"]),
                f"{account['judged']['bytes'] / spent / 1e6:.3g}" if spent else "",
            )
        )
    top = ("stage", "documents in", "dropped", "", "edited", "bytes in", "lost", "", "MB/s a process")
    said = "Speed is bytes shown to the stage over its own time: preparing, surveying, comparing and judging together."
    return section("Stage by stage", table(top, rows), paragraph(said, "small"))


def reasons(cleaning: Cleaning) -> str:
    """Section: why documents went, the weightiest reason of all stages first."""
    found = [
        (label, reason, tally, account["received"])
        for label, account in cleaning.stages
        for reason, tally in account["reasons"].items()
    ]
    if not found:
        return section("Why documents went", paragraph("No document was dropped."))
    found.sort(key=lambda row: -row[2]["bytes"])
    most = found[0][2]["bytes"]
    rows = [
        (
            f'{text(reason)} <span class="small who">{text(label[3:])}</span>',
            f"{tally['documents']:,}",
            percent(tally["documents"], received["documents"]),
            _bar(tally["bytes"], most, "lost") + data_size(tally["bytes"]),
            percent(tally["bytes"], received["bytes"]),
        )
        for label, reason, tally, received in found
    ]
    top = ("reason", "documents", "of those that arrived", "bytes", "of those that arrived")
    return section("Why documents went", _table(top, rows, REASONS, "smaller reasons"))


def _table(top: Sequence[str], rows: Sequence[Sequence[str]], shown: int, others: str) -> str:
    """A table whose first rows are shown and whose others can be opened."""
    more = folded(f"{len(rows) - shown} {others}", table(top, rows[shown:], "named")) if rows[shown:] else ""
    return table(top, rows[:shown], "named") + more


def _bar(part: float, whole: float, kind: str = "") -> str:
    return f'<i class="share {kind}" style="width:{6 * part / max(1, whole):.2f}rem"></i>'


def groups(cleaning: Cleaning) -> str:
    """Section: what each source (or other group) lost, and to which stage most of it."""
    before = cleaning.summary["read"]["groups"]
    most = max((tally["bytes"] for tally in before.values()), default=1)
    after = cleaning.stages[-1][1]["groups"] if cleaning.stages else before
    rows = [
        (
            text(name or "(none)"),
            f"{tally['documents']:,}",
            f"{after.get(name, {}).get('documents', 0):,}",
            _bar(tally["bytes"], most) + data_size(tally["bytes"]),
            data_size(after.get(name, {}).get("bytes", 0)),
            percent(after.get(name, {}).get("bytes", 0), tally["bytes"]),
            text(_worst(cleaning, name)),
        )
        for name, tally in before.items()
    ]
    by = cleaning.summary["by"]
    top = (text(by), "documents", "kept", "bytes", "kept", "", "most lost to")
    return section(f"{by.capitalize()} by {by}", _table(top, rows, GROUPS, "smaller ones"))


def _worst(cleaning: Cleaning, group: str) -> str:
    """The stage that took most bytes from a group, and how much of it."""
    held = [cleaning.summary["read"]["groups"], *(account["groups"] for _, account in cleaning.stages)]
    left = [groups.get(group, {}).get("bytes", 0) for groups in held]
    losses = [(a - b, label) for (a, b), (label, _) in zip(pairwise(left), cleaning.stages, strict=True)]
    lost, label = max(losses, default=(0, ""))
    return f"{label[3:]} {percent(lost, left[0])}" if lost > 0 else ""


def documents(cleaning: Cleaning) -> str:
    """Section: examples, stage by stage."""
    parts = []
    for label, account in cleaning.stages:
        mine = {kind: [e for e in cleaning.examples if e["stage"] == label and e["treated"] == kind] for kind in KINDS}
        said = {
            reason: f"{tally['documents']:,} documents, {data_size(tally['bytes'])}"
            for reason, tally in account["reasons"].items()
        }
        if said or mine["edited"]:
            pairs = examples.pairs(mine["dropped"], mine["kept"], said)
            parts.append(f"<h3>{text(label)}</h3>{pairs}{examples.diffs(mine['edited'])}")
    intro = (
        "Dropped on the left, with the figure that decided; beside it a document that the same stage kept, of the same "
        "source or file where there is one. Edits are shown as what went and what came."
    )
    return section("Judge for yourself", paragraph(intro), *parts)


def configuration(cleaning: Cleaning) -> str:
    """Section: what was asked for."""
    return section("The configuration", folded("clean.toml, every threshold", f"<pre>{text(cleaning.config)}</pre>"))
