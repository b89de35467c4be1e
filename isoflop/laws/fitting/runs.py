"""Runs as a table: parameters N, tokens D, loss, and where known the FLOPs C and the unique tokens U.

:func:`read_runs` takes them from arrays, a mapping, a data frame, a CSV file, or a directory of finished runs, and
finds faults before any fit does: a cell that is not a positive number, a row that is there twice, budgets that count
2ND in some rows and 6ND in others. Every fault is a sentence that names the rows.

Left out: Parquet and databases (any data frame will do), units other than parameters, tokens and FLOPs.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..forms.law import Array, Index, Mask
from ..forms.surface import FLOPS

NAMES = {
    "N": ("n", "params", "parameters", "model_size", "n_params", "num_params", "n_matmul"),
    "D": ("d", "tokens", "training_tokens", "n_tokens", "num_tokens", "train_tokens"),
    "C": ("c", "flops", "training_flop", "training_flops", "compute", "compute_budget", "budget", "c_6nd"),
    "U": ("u", "unique_tokens", "unique"),
    "loss": ("l", "validation_loss", "val_loss", "final_loss", "eval_loss"),
}
DELIMITERS = ",;\t"
SUMMARY = {"N": "N_matmul", "D": "tokens", "loss": "validation_loss"}  # keys of a run's summary.json
MOST_NAMES = 12  # columns named in a sentence
REPEATED = 1.5  # passes over the data beyond which repetition is worth a word
SHOWN = 5  # rows named in a sentence


@dataclass(frozen=True, eq=False, repr=False)
class Runs:
    """Finished runs; every column has shape (runs,).

    ``C`` is training FLOPs: as given, else 6ND. ``U`` is the unique tokens, where given. ``labels`` name the rows in
    the words of where they came from; ``notes`` says what should be known of the table as a whole.
    """

    N: Array
    D: Array
    loss: Array
    C: Array
    U: Array | None
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.loss)

    def __repr__(self) -> str:
        spans = [f"{name} {v.min():.4g} to {v.max():.4g}" for name, v in (("C", self.C), ("loss", self.loss))]
        return f"Runs[{len(self)} runs, {', '.join(spans)}]"

    def column(self, name: str) -> Array:
        """Give a column by its symbol. Raises ValueError when the runs do not have it."""
        values: Array | None = getattr(self, name) if name in ("N", "D", "C", "U", "loss") else None
        if values is None:
            raise ValueError(f"the runs have no column {name}; this form needs it")
        return values

    def take(self, rows: Mask | Index) -> Self:
        """Keep some runs."""
        chosen = np.arange(len(self))[rows]
        unique = None if self.U is None else self.U[chosen]
        labels = tuple(self.labels[i] for i in chosen)
        columns = (self.N[chosen], self.D[chosen], self.loss[chosen], self.C[chosen])
        return type(self)(*columns, unique, labels, self.notes)

    def named(self, rows: ArrayLike) -> str:
        """Name up to five rows."""
        places = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        return ", ".join(self.labels[i] for i in places[:SHOWN]) + (", …" if len(places) > SHOWN else "")


def read_runs(source: Any, *, columns: Mapping[str, str] | None = None) -> Runs:
    """Read runs from a :class:`Runs`, a mapping or data frame of columns, a CSV file, or a directory of runs.

    ``columns`` says which column is which, as in {"N": "size", "loss": "c4"}; without it the usual names are known.
    One of N, D, C may be missing: it follows from C = 6ND. A directory is searched for ``summary.json`` files. A list
    of sources is read one after the other.

    Raises ValueError naming the file or the rows for values that are not positive numbers, rows that are the same run
    twice, and budgets of mixed conventions; FileNotFoundError for a path that is not there.
    """
    if isinstance(source, Runs):
        return source
    if isinstance(source, list | tuple) and len(source) == 1:
        return read_runs(source[0], columns=columns)
    if isinstance(source, list | tuple):
        return _joined([_part(part, f"source {i}", columns) for i, part in enumerate(source, 1)])
    if isinstance(source, str | Path):
        try:
            return _checked(*_table(Path(source), columns or {}))
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None
    if hasattr(source, "keys") and hasattr(source, "__getitem__"):
        table = {str(name): source[name] for name in source.keys()}  # noqa: SIM118 (a data frame's keys are its columns)
        return _checked(_chosen(table, columns or {}), ())
    raise ValueError(f"runs are read from a mapping, a data frame, a CSV file or a directory, not {type(source)}")


def _table(path: Path, columns: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    table, labels = _read_directory(path) if path.is_dir() else _read_csv(path)
    return _chosen(table, columns), labels


def _chosen(table: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Find each symbol's column, by what the user says or by the usual names."""
    unknown = set(columns) - set(NAMES)
    if unknown:
        raise ValueError(f"columns names {', '.join(sorted(unknown))}; the symbols are {', '.join(NAMES)}")
    _same_twice(columns)
    plain: dict[str, list[str]] = {}
    for name in table:
        plain.setdefault(name.lower().strip().replace(" ", "_").replace("-", "_"), []).append(name)
    found = {}
    for symbol, usual in NAMES.items():
        if symbol in columns:
            if columns[symbol] not in table:
                raise ValueError(f"there is no column {columns[symbol]!r} for {symbol}; there are: {', '.join(table)}")
            found[symbol] = table[columns[symbol]]
        elif symbol in table:
            found[symbol] = table[symbol]
        elif names := next((plain[alias] for alias in (symbol.lower(), *usual) if alias in plain), None):
            if len(names) > 1:
                raise ValueError(f"{' and '.join(map(repr, names))} may both be {symbol}: say which with columns=")
            found[symbol] = table[names[0]]
    missing = ["loss"] * ("loss" not in found) + (
        ["two of N, D and C"] if len({"N", "D", "C"} & set(found)) < 2 else []
    )
    if missing:
        near = [name for name in table if "loss" in name.lower()] if missing == ["loss"] else list(table)
        listing = ", ".join((near or list(table))[:MOST_NAMES]) or "none"
        more = ", …" if len(near or table) > MOST_NAMES else ""
        raise ValueError(
            f"no column for {' and '.join(missing)}; there are: {listing}{more}. "
            "Say which is which: N=size, loss=c4_loss, … (columns= in Python, --columns on the command line)"
        )
    return found


def _same_twice(columns: Mapping[str, str]) -> None:
    for symbol, name in columns.items():
        others = [other for other, used in columns.items() if used == name and other != symbol]
        if others:
            raise ValueError(
                f"column {name!r} is given for both {symbol} and {others[0]}; each has a column of its own"
            )


def _checked(found: dict[str, Any], labels: Sequence[str]) -> Runs:
    """Turn cells into numbers, fill in what follows from C = 6ND, and look for faults."""
    for symbol, values in found.items():
        if not _is_column(values):
            kind = type(values).__name__
            raise ValueError(f"{symbol} is not one column but a {kind}; give a list or an array, one entry per run")
    sizes = {symbol: len(values) for symbol, values in found.items()}
    if len(set(sizes.values())) > 1:
        listing = ", ".join(f"{symbol} has {size}" for symbol, size in sizes.items())
        raise ValueError(f"the columns differ in length ({listing}); give one entry per run in each")
    labels = tuple(labels) or tuple(f"row {i}" for i in range(next(iter(sizes.values()))))
    if not labels:
        raise ValueError("there are no runs")
    c = {symbol: _numbers(symbol, values, labels) for symbol, values in found.items()}
    given = "C" in c and "N" in c and "D" in c
    with np.errstate(over="ignore", under="ignore"):
        if "C" not in c:
            c["C"] = FLOPS * c["N"] * c["D"]
        if "N" not in c:
            c["N"] = c["C"] / FLOPS / c["D"]
        if "D" not in c:
            c["D"] = c["C"] / FLOPS / c["N"]
        product = c["N"] * c["D"]
    beyond = np.flatnonzero(~(np.isfinite(product) & np.isfinite(c["C"]) & (product > 0) & (c["C"] > 0)))
    if beyond.size:
        raise ValueError(f"C = 6ND is beyond all numbers for {labels[beyond[0]]}: N is in parameters, D in tokens")
    runs = Runs(c["N"], c["D"], c["loss"], c["C"], c.get("U"), labels)
    _refuse_duplicates(runs)
    notes = (*(_budget_notes(runs) if given else ()), *_repetition_notes(runs))
    return Runs(runs.N, runs.D, runs.loss, runs.C, runs.U, labels, notes)


def _numbers(symbol: str, values: Any, labels: Sequence[str]) -> Array:
    """Turn a column into positive finite floats, or say which rows are not."""
    numbers = np.empty(len(labels))
    bad = []
    for i, value in enumerate(values):
        try:
            numbers[i] = float(value)
        except (TypeError, ValueError, OverflowError):
            numbers[i] = np.nan
        if not (np.isfinite(numbers[i]) and numbers[i] > 0):
            bad.append(f"{labels[i]} has {_shown(value)}")
    if bad:
        listing = "; ".join(bad[:SHOWN]) + ("; …" if len(bad) > SHOWN else "")
        raise ValueError(f"{symbol} must be positive and finite, but {listing}: drop or repair these runs")
    return numbers


def _is_column(values: Any) -> bool:
    """Whether this is a vector: an array, a series, a list."""
    if isinstance(values, str | bytes | Mapping | Set):
        return False
    return hasattr(values, "__len__") and hasattr(values, "__iter__") and getattr(values, "ndim", 1) == 1


def _shown(value: Any) -> str:
    """What stands in a cell, shortly."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return "nothing"
    text = repr(value) if isinstance(value, str) else str(value)
    if isinstance(value, str) and value.replace(",", "").replace("_", "").replace(" ", "").isdigit():
        return f"{text} (thousands separators are not understood)"
    return text if len(text) <= 40 else f"{text[:37]}…"


def _refuse_duplicates(runs: Runs) -> None:
    """Refuse rows that agree in everything: a run counted twice pretends to be two measurements."""
    table = np.column_stack([runs.N, runs.D, runs.loss, runs.C, *([] if runs.U is None else [runs.U])])
    _, first, counts = np.unique(table, axis=0, return_index=True, return_counts=True)
    if counts.max() > 1:
        same = np.flatnonzero((table == table[first[np.argmax(counts)]]).all(axis=1))
        extra = f" (and {int((counts > 1).sum()) - 1} more such runs)" if (counts > 1).sum() > 1 else ""
        raise ValueError(
            f"{runs.named(same)} are the same run, loss and all{extra}: a run that is counted twice narrows every "
            "interval; keep one of each"
        )


def _budget_notes(runs: Runs) -> tuple[str, ...]:
    """Compare the budgets with N·D: refuse tables that mix conventions, and say which one a table has."""
    with np.errstate(over="ignore"):
        ratio = runs.C / (runs.N * runs.D)
    forward = ratio < 3.0
    if forward.any() and (ratio > 4.5).any():
        few, many = (forward, "6ND") if 2 * forward.sum() <= len(runs) else (~forward, "2ND")
        raise ValueError(
            f"C is about 2ND in {forward.sum()} rows and 6ND or more in {(~forward).sum()}: {runs.named(few)} do not "
            f"count as the others do ({many}); bring all to one convention"
        )
    if forward.any():
        return (f"C is about {np.median(ratio):.1f}·N·D: forward passes alone? Training takes 6·N·D",)
    if np.median(ratio) > 6.6:
        return (f"C is about {np.median(ratio):.1f}·N·D, more than 6: exact FLOPs, or an N without embeddings",)
    return ()


def _repetition_notes(runs: Runs) -> tuple[str, ...]:
    if runs.U is None:
        return ()
    with np.errstate(over="ignore"):
        passes = float(np.median(runs.D / runs.U))
    if passes < REPEATED:
        return ()
    return (f"the runs repeat their data, {passes:.1f} passes in the middle of them: only DataConstrained counts them",)


def _read_csv(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Read the cells of a CSV file by column, and the lines that they stand on; rows of empty cells are left out."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            file.seek(0)
            if head.lstrip()[:1] in ("{", "["):
                raise ValueError("this is JSON, not CSV; read it in Python and give read_runs its columns as a dict")
            reader = csv.reader(file, strict=True, delimiter=max(DELIMITERS, key=head.count))
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except UnicodeDecodeError:
        raise ValueError("this is not text in UTF-8; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} is not CSV: {error}") from None
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if not lines:
        raise ValueError("the file is empty; its first line must name the columns")
    (_, names), *rows = lines
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise ValueError(f"the first line has {', '.join(twice)} more than once; give every column its own name")
    for number, cells in rows:
        if any(cells[len(names) :]):
            raise ValueError(
                f"line {number} has {len(cells)} cells and the first line {len(names)}; quote what has commas"
            )
    table = {name: [cells[i] if i < len(cells) else None for _, cells in rows] for i, name in enumerate(names) if name}
    return table, [f"line {number}" for number, _ in rows]


def _read_directory(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Collect the summaries of finished runs beneath a directory."""
    # A trunk is at its full learning rate: its loss is not that of a finished run.
    files = sorted(file for file in path.rglob("summary.json") if file.parent.name != "trunk")
    if not files:
        raise ValueError("there is no finished run: no summary.json anywhere beneath")
    summaries = [_read_summary(file) for file in files]
    table = {symbol: [summary[key] for summary in summaries] for symbol, key in SUMMARY.items()}
    return table, [str(file.parent.relative_to(path)) if file.parent != path else path.name for file in files]


def _read_summary(file: Path) -> dict[str, Any]:
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error}); delete it, or finish the run again") from None
    missing = [key for key in SUMMARY.values() if not isinstance(summary, dict) or key not in summary]
    if missing:
        raise ValueError(f"{file} has no {', '.join(missing)}: it is not the summary of a run")
    return dict(summary)


def _part(source: Any, name: str, columns: Mapping[str, str] | None) -> Runs:
    """Read one of several sources, saying with every row and every fault which one it is."""
    if isinstance(source, str | Path):
        runs, name = read_runs(source, columns=columns), Path(source).name
    else:
        try:
            runs = read_runs(source, columns=columns)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return replace(runs, labels=tuple(f"{name} {label}" for label in runs.labels))


def _joined(parts: Sequence[Runs]) -> Runs:
    if not parts:
        raise ValueError("there are no runs")
    unique = [part.U for part in parts if part.U is not None]
    runs = Runs(
        N=np.concatenate([part.N for part in parts]),
        D=np.concatenate([part.D for part in parts]),
        loss=np.concatenate([part.loss for part in parts]),
        C=np.concatenate([part.C for part in parts]),
        U=np.concatenate(unique) if len(unique) == len(parts) else None,
        labels=tuple(label for part in parts for label in part.labels),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )
    _refuse_duplicates(runs)
    _budget_notes(runs)
    return runs
