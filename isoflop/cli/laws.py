"""``isoflop laws``: the library of published laws."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tyro

if TYPE_CHECKING:
    from isoflop.laws.library import Entry

DESCRIPTION = """Lists the published laws that isoflop knows, each with what its symbols mean and where it is from, or
tells all about one. Verified means read in the source itself or recomputed from its data.

examples:
  isoflop laws
  isoflop laws besiroglu_2024 --at 1e22
  isoflop laws LLAMA3_TOKENS --at 4e25
  isoflop laws --json
"""


HINTS = 4  # names suggested for one that is not there


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop laws``.

    Attributes:
        name: One law, in any case; by default all of them.
        at: FLOPs to spend by a law of N and D; or the value of x in a law of one variable.
        json: Print as JSON.
    """

    name: tyro.conf.Positional[str | None] = None
    at: float | None = None
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop laws", description=DESCRIPTION)
    from isoflop.laws import LIBRARY

    if a.name is None:
        if a.at is not None:
            raise ValueError("--at asks one law: name it, as in: isoflop laws BESIROGLU_2024 --at 1e22")
        tell_all(list(LIBRARY.values()), as_json=a.json)
    else:
        tell_one(find(a.name), a.at, as_json=a.json)


def tell_all(entries: list[Entry], *, as_json: bool) -> None:
    """Print the table."""
    from isoflop.cli.tables import show_stacked

    if as_json:
        print(json.dumps([plain_entry(entry) for entry in entries], indent=1))
        return
    show_stacked(
        [(e.name, str(e.law), e.meaning, e.source, "verified" if e.verified else "not verified") for e in entries]
    )


def tell_one(entry: Entry, at: float | None, *, as_json: bool) -> None:
    """Print one law in full, and what it says at a budget."""
    from isoflop.cli.tables import aligned
    from isoflop.laws.forms.law import letter

    said = {} if at is None else evaluate(entry, at)
    if as_json:
        print(json.dumps(plain_entry(entry) | ({"at": said} if said else {}), indent=1))
        return
    form = type(entry.law)
    facts = [
        ("law", str(entry.law)),
        ("form", f"{form.__name__}: {(form.__doc__ or '').strip().splitlines()[0]}"),
        ("meaning", entry.meaning),
        ("source", entry.source),
        ("numbers", "verified" if entry.verified else "not verified: from others' texts"),
        *([("note", entry.note)] if entry.note else []),
        *((letter(name), f"{value:.10g}") for name, value in numbers_of(entry).items()),
    ]
    print(entry.name)
    print(aligned(facts))
    if said:
        print("\n" + ", ".join(f"{name} = {value:.4g}" for name, value in said.items()))


def find(name: str) -> Entry:
    """Find a law by name in any case. Raises ValueError with the nearest names for one that is not there."""
    import difflib

    from isoflop.laws import LIBRARY

    wanted = name.upper().replace("-", "_")
    if wanted in LIBRARY:
        return LIBRARY[wanted]
    near = [key for key, entry in LIBRARY.items() if wanted in f"{key} {entry.law.kind} {entry.source}".upper()]
    near = near or difflib.get_close_matches(wanted, LIBRARY, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near[:HINTS])}?" if near else "isoflop laws lists them"
    raise ValueError(f"there is no law {name!r}; {hint}")


def evaluate(entry: Entry, at: float) -> dict[str, float]:
    """Read a law of N and D at its optimum for a budget, one of x at x. Raises ValueError for other laws."""
    from isoflop.laws import LossSurface, PowerLaw, SaturatingPowerLaw

    law = entry.law
    if isinstance(law, LossSurface):
        best = law.optimal(at)
        return {"C": best.C, "N": best.N, "D": best.D, "D/N": best.tokens_per_parameter, "loss": best.loss}
    if isinstance(law, PowerLaw | SaturatingPowerLaw):
        if not at > 0:
            raise ValueError(f"--at is {at}; x must be positive")
        return {"x": at, "y" if isinstance(law, PowerLaw) else "loss": float(law(at))}
    raise ValueError(f"{entry.name} is neither a law of N and D nor one of x: --at says nothing of it")


def numbers_of(entry: Entry) -> dict[str, float]:
    """The parameters that are numbers; some laws are made of other laws."""
    return {name: value for name, value in entry.law.parameters().items() if isinstance(value, int | float)}


def plain_entry(entry: Entry) -> dict[str, Any]:
    """An entry as JSON holds it."""
    return {
        "name": entry.name,
        "formula": str(entry.law),
        "law": entry.law.to_json(),
        "meaning": entry.meaning,
        "source": entry.source,
        "verified": entry.verified,
        "note": entry.note,
    }
