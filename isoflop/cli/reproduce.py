"""``isoflop reproduce``: published numbers recomputed from published data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

if TYPE_CHECKING:
    from isoflop.laws.reproduction.all import Paper
    from isoflop.laws.reproduction.check import Check

DESCRIPTION = """Recomputes the numbers of scaling-law papers from the papers' public data, and says of each whether it
is reproduced. No data come with isoflop: papers whose data are missing are listed with the repository on GitHub that
has them and the place they are looked for.

examples:
  isoflop reproduce --data data
  isoflop reproduce --data data --only llama3
  isoflop reproduce --data data --strict --json
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop reproduce``.

    Attributes:
        data: Folder that holds scaling/ and mixing/, and in them a folder for each paper.
        only: One paper, by the name in the list.
        strict: Fail when a number is not reproduced.
        json: Print as JSON.
    """

    data: Path = Path("data")
    only: str | None = None
    strict: bool = False
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop reproduce", description=DESCRIPTION)
    from isoflop.cli.tables import plain

    papers = choose(a.only)
    found: list[Check] = []
    told = []
    for paper, checks, trouble in recompute(papers, a.data):
        found += checks
        told.append(plain_paper(paper, checks, trouble))
        if not a.json:
            tell(paper, checks, trouble)
    missed = [check for check in found if not check.reproduced]
    if a.json:
        whole = {"papers": told, "checks": len(found), "reproduced": len(found) - len(missed)}
        print(json.dumps(plain(whole), indent=1))
    else:
        print(f"{len(found) - len(missed)} of {len(found)} numbers reproduced")
    if a.strict and missed:
        raise RuntimeError(f"{len(missed)} of {len(found)} numbers are NOT reproduced")


def choose(only: str | None) -> list[Paper]:
    """All papers, or the one that is named. Raises ValueError for an unknown name."""
    from isoflop.laws.reproduction.all import PAPERS

    chosen = [paper for paper in PAPERS if only is None or paper.name == only.lower()]
    if not chosen:
        raise ValueError(f"there is no paper {only!r}; there are {', '.join(paper.name for paper in PAPERS)}")
    return chosen


def recompute(papers: list[Paper], data: Path) -> Iterator[tuple[Paper, list[Check], str]]:
    """Each paper's checks, or why there are none."""
    for paper in papers:
        missing = paper.missing(data)
        if missing:
            more = f" and {len(missing) - 1} more" if missing[1:] else ""
            yield paper, [], f"needs {data / missing[0]}{more}; from github.com/{paper.repository}: {paper.how}"
            continue
        try:
            yield paper, paper.checks(data), ""
        except ImportError as error:
            yield paper, [], str(error)


def tell(paper: Paper, checks: list[Check], trouble: str) -> None:
    """Print a paper's numbers, or where its data are."""
    if trouble:
        print(f"{paper.name}: {trouble}\n", flush=True)
        return
    from isoflop.cli.tables import show

    print(f"{paper.name}: {paper.source}", flush=True)
    rows = [
        (c.source, c.quantity, f"{c.published:.6g}", f"{c.recomputed:.6g}", f"±{c.tolerance:.2g}", verdict(c))
        for c in checks
    ]
    show(("source", "quantity", "published", "recomputed", "allowed", "verdict"), rows)
    if any(not check.reproduced for check in checks):
        print(f"what is known of the misses: help({paper.recompute.__module__})")
    print(flush=True)


def verdict(check: Check) -> str:
    """Whether the two numbers agree."""
    return "reproduced" if check.reproduced else "NOT reproduced"


def plain_paper(paper: Paper, checks: list[Check], trouble: str) -> dict[str, Any]:
    """A paper as JSON holds it."""
    return {
        "name": paper.name,
        "source": paper.source,
        "repository": paper.repository,
        "files": [f"{paper.room}/{name}" for name in paper.files],
        "trouble": trouble,
        "checks": [vars(check) | {"reproduced": check.reproduced} for check in checks],
    }
