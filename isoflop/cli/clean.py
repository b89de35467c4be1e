"""``isoflop clean``: raw text through cleaning stages, with a report to judge them by."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from isoflop.corpus.pipeline.presets import PRESETS

if TYPE_CHECKING:
    from isoflop.corpus.pipeline import CleanConfig

DESCRIPTION = f"""Cleans a corpus stage by stage into OUT/documents and says in OUT/report.html what every stage removed
and why, with documents to judge it by. All processors are used; a stopped cleaning goes on when called again.

presets:
{chr(10).join(f"  {name:<9} {preset.about}" for name, preset in PRESETS.items())}

examples:
  isoflop clean raw/ --out clean/ --preset fineweb
  isoflop clean raw/ --out look/ --preset gopher --sample 1%        a quick look first
  isoflop clean raw/ --out clean/ --preset llama3 --dry-run > clean.toml
  isoflop clean --config clean.toml --out clean/
  isoflop clean --config clean.toml --out /shared/clean/ --ray auto
  isoflop prepare --corpus clean/documents --out tokens/
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop clean``.

    Attributes:
        corpus: Files or folders to clean, or "python"; instead of the config's corpus, if that has one.
        out: Folder for the cleaned documents, the account and the report.
        preset: Stages that are known by a name.
        config: TOML file with stages and their thresholds, and perhaps the corpus.
        bad_fraction: Share of bad records, and of bytes in damaged files, above which the corpus is refused.
        sample: Clean only this share of the documents, such as 1% or 0.01.
        workers: Worker processes; by default one per processor.
        ray: Clean on a Ray cluster: its address, "auto" for this machine's, "local" to start one here.
        keep: Keep the documents of every pass, in OUT/work.
        dry_run: Print the resolved config and what would be done, and do nothing.
        json: Print the summary as JSON.
    """

    corpus: tyro.conf.Positional[tuple[str, ...]] = ()
    out: Path | None = None
    preset: str | None = None
    config: Path | None = None
    bad_fraction: float | None = None
    sample: str | None = None
    workers: int | None = None
    ray: str | None = None
    keep: bool = False
    dry_run: bool = False
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop clean", description=DESCRIPTION)
    config = resolved(a)
    if a.dry_run:
        print(config.dumps() + plan(config))
        return
    if a.out is None:
        raise ValueError("where to? give a folder with --out")
    if a.workers is not None and a.workers < 1:
        raise ValueError(f"cleaning needs at least one worker, not {a.workers}")
    summary, page = run(a, config, a.out)
    if a.json:
        print(json.dumps(summary))
    else:
        print(f"{account(summary)}\n\n{a.out}/documents\n{page}")


def resolved(a: Arguments) -> CleanConfig:
    """The config that the command line asks for. Raises ValueError."""
    from isoflop.corpus.pipeline.config import Source
    from isoflop.corpus.pipeline.presets import preset
    from isoflop.corpus.pipeline.tables import from_table, read_table

    if a.preset is not None and a.config is not None:
        raise ValueError("--preset and --config both name the stages: give one of them")
    if a.preset is None and a.config is None:
        raise ValueError(f"which stages? give --config FILE, or --preset with one of {', '.join(PRESETS)}")
    table = preset(a.preset) if a.preset is not None else read_table(a.config) if a.config else {}
    if a.corpus:
        table["corpus"] = list(a.corpus)
    config = from_table(table, a.config.name if a.config else f"preset {a.preset}")
    config = replace(config, corpus=tuple(Source(placed(s.path), s.name) for s in config.corpus))
    if a.bad_fraction is not None:
        config = replace(config, bad_fraction=a.bad_fraction)
    return config if a.sample is None else replace(config, sample=share(a.sample))


def placed(path: str) -> str:
    """A path that means the same from any folder and machine; names of corpora as they are."""
    return str(Path(path).expanduser().absolute()) if Path(path).expanduser().exists() and path != "python" else path


def share(words: str) -> float:
    """A share as people write it: ``1%`` or ``0.01``."""
    try:
        return float(words.removesuffix("%")) / 100 if words.endswith("%") else float(words)
    except ValueError:
        raise ValueError(f"--sample {words} is not a share: write 1% or 0.01") from None


def run(a: Arguments, config: CleanConfig, out: Path) -> tuple[dict[str, Any], Path]:
    """Clean, and write the report whatever is left; returns the summary and the report's path."""
    from isoflop.corpus.pipeline import clean
    from isoflop.corpus.pipeline.layout import Job
    from isoflop.progress import console
    from isoflop.report.cleaning import write_cleaning_page

    def pool(job: Job) -> Any:
        if a.ray is None:
            from isoflop.corpus.pipeline.local import LocalPool

            return LocalPool(job, a.workers)
        from isoflop.corpus.pipeline.cluster import RayPool

        return RayPool(job, a.ray, a.workers)

    page = out / "report.html"
    try:
        with console() as report:
            summary = clean(config, out, report, pool, a.keep)
    finally:
        if (out / "summary.json").exists():
            page = write_cleaning_page(out)
    return summary, page


def plan(config: CleanConfig) -> str:
    """What would be done, as comments below the config."""
    from isoflop.corpus.pipeline.clean import describe
    from isoflop.corpus.pipeline.layout import passes

    return "\n" + "\n".join(f"# {line}" for line in describe(passes(config.steps), config.labels))


def account(summary: dict[str, Any]) -> str:
    """The summary as a table."""
    from isoflop.cli.tables import aligned, left_out
    from isoflop.report.scales import data_size, percent

    read = summary["read"]
    rows = [
        ("stage", "documents", "bytes", "lost", "edited", "mostly"),
        (
            "read",
            f"{read['documents']:,}",
            data_size(read["bytes"]),
            "",
            "",
            left_out(read),
        ),
    ]
    for label, stage in summary["stages"].items():
        received, kept = stage["received"]["bytes"], stage["kept"]["bytes"]
        lost = percent(received - kept, received)
        rows.append(
            (
                label,
                f"{stage['kept']['documents']:,}",
                data_size(kept),
                lost,
                f"{stage['edited']['documents']:,}",
                next(iter(stage["reasons"]), ""),
            )
        )
    return aligned(rows)
