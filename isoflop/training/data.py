"""Which tokens a run reads: recorded in its directory when it starts, and compared whenever it goes on.

``data.json`` has what identifies each source's tokens, and every change of them that was accepted, with the tokens
consumed by then; the summary repeats the changes. A run from before there was such a record gets one when it goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isoflop.files import write_json
from isoflop.tokens.dataset import TokenDataset

FILE = "data.json"
Record = dict[str, dict[str, Any]]


def record(datasets: Mapping[str, TokenDataset]) -> Record:
    """What identifies the tokens of each source, the telling fields first and the one that covers all last."""
    return {
        name: {
            "tokenizer_checksum": dataset.manifest.tokenizer_checksum,
            "dtype": dataset.manifest.dtype,
            "corpus_fingerprint": dataset.manifest.corpus_fingerprint,
            **{f"{split}_tokens": totals.tokens for split, totals in sorted(dataset.manifest.splits.items())},
            "fingerprint": dataset.manifest.fingerprint,
        }
        for name, dataset in datasets.items()
    }


def differences(old: Record, new: Record) -> list[str]:
    """In what two records differ, a phrase for each field of each source."""
    return [
        f"source {name!r}: {field} {old[name].get(field)} → {new[name].get(field)}"
        for name in old.keys() & new.keys()
        for field in new[name]
        if old[name].get(field) != new[name].get(field)
    ]


def recorded(run: Path) -> dict[str, Any] | None:
    """A run's record of its data, ``sources`` and ``changes``; None for one from before there were such records."""
    path = run / FILE
    return json.loads(path.read_text()) if path.exists() else None


def check(run: Path, now: Record, consumed: int, *, accept: bool, write: bool) -> list[dict[str, Any]]:
    """Hold a run's data against its record, and return the changes accepted so far.

    Raises ValueError, naming the fields, when they differ and that is not accepted; an accepted change is recorded.
    Only where ``write`` is set are files written.
    """
    before = recorded(run) or {"sources": now, "changes": []}
    changed = differences(before["sources"], now)
    if changed and not accept:
        raise ValueError(
            f"the data of {run} changed since the run began ({'; '.join(changed)}); restore it, start another "
            "directory, or go on with --accept-changed-data, which is recorded"
        )
    changes = before["changes"] + ([{"tokens": consumed, "differences": changed}] if changed else [])
    if write:
        write_json(run / FILE, {"sources": now, "changes": changes})
    return list(changes)
