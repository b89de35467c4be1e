"""``isoflop mix``: which mixture of sources to train on, found with many small proxies."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

if TYPE_CHECKING:
    from isoflop.mixing.settings import MixConfig

DESCRIPTION = """Trains many small proxies on sampled mixtures of prepared sources, measures each on held-out text,
fits a law of the loss to the shares, and chooses the shares that it says are best for a target, within a cap on
repetition and not further from the natural mixture than it pays. Says how sure it is.

Stopped, the same command goes on.

examples:
  isoflop mix --sources code=tokens/code web=tokens/web --target code --out mix/ --minutes 10
  isoflop mix --sources code=tokens/code web=tokens/web --target tokens/exam=0.7 code=0.3 --out mix/ \\
      --proxies 64 --size 3e5 --tokens 4e6 --target-tokens 2e9
  isoflop mix --sources code=tokens/code web=tokens/web --target code --out mix/ --dry-run
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop mix``.

    Attributes:
        sources: NAME=FOLDER of each source, folders that ``isoflop prepare`` made with one tokenizer.
        target: What the mixture is for, one or more of NAME[=SHARE]: a source, for its held-out documents, or another
            prepared folder, none of which is trained on.
        out: Directory of the search.
        proxies: How many mixtures are tried.
        minutes: Time to spend on this machine; decides the size of the proxies where that is not given.
        size: Parameters of a proxy; 2e5 by default.
        tokens: Tokens that a proxy is trained on; 20 a parameter by default.
        target_tokens: Tokens of the run that the mixture is for, which decide how often a source is repeated; one pass
            over all sources by default.
        epochs: Most repetitions of a source in that run.
        strength: Nats of loss that a nat of divergence from the prior must be worth.
        prior: What the mixture is drawn to: shares by available tokens, or equal shares.
        context: Tokens a proxy sees at once.
        workers: Worker processes; by default one per core, or as many as the cluster has room for.
        on: Where they work: local; ray, or "ray ADDRESS" of a cluster; slurm, or "slurm OPTIONS" of sbatch.
        seed: Seed of mixtures, initial weights and order.
        dry_run: Print every proxy's mixture and what they cost, and leave nothing behind; with --minutes this machine's
            speed is measured.
        json: Print the answer as JSON.
    """

    sources: tuple[str, ...]
    target: tuple[str, ...]
    out: Path
    proxies: int = 32
    minutes: float | None = None
    size: float | None = None
    tokens: float | None = None
    target_tokens: float | None = None
    epochs: float = 4.0
    strength: float = 0.05
    prior: Literal["natural", "uniform"] = "natural"
    context: int | None = None
    workers: int | None = None
    on: str = "local"
    seed: int = 0
    dry_run: bool = False
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop mix", description=DESCRIPTION)
    from isoflop.mixing.request import Request, resolve
    from isoflop.mixing.search import search
    from isoflop.progress import console
    from isoflop.sweeps.executor import worker_processors
    from isoflop.sweeps.places import hiring

    request = Request(
        sources=folders(a.sources),
        target=shares(a.target),
        proxies=a.proxies,
        parameters=a.size,
        tokens=a.tokens,
        minutes=a.minutes,
        target_tokens=a.target_tokens,
        context=a.context,
        epochs=a.epochs,
        strength=a.strength,
        prior=a.prior,
        seed=a.seed,
    )
    workers = worker_processors(a.workers)
    if a.dry_run:
        with tempfile.TemporaryDirectory() as scratch:
            print(described(resolve(request, a.out, workers, Path(scratch))))
        return
    config = resolve(request, a.out, workers)
    with console() as report:
        found = search(config, a.out, report, a.workers, hiring(a.on))
    page = write_report(a.out)
    if a.json:
        print(json.dumps(found | {"report": str(page) if page else None}))
    else:
        print(told(found, a.out))
        print(f"report:  {page}" if page else "no report: it needs matplotlib (pip install 'isoflop[report]')")


def folders(sources: tuple[str, ...]) -> dict[str, str]:
    """NAME=FOLDER as a table."""
    found: dict[str, str] = {}
    for source in sources:
        name, equals, folder = source.partition("=")
        if not (name and equals and folder) or name in found:
            raise ValueError(f"--sources takes NAME=FOLDER with different names, not {source!r}")
        found[name] = folder
    return found


def shares(targets: tuple[str, ...]) -> dict[str, float]:
    """NAME[=SHARE] as a table; without a share, 1."""
    found: dict[str, float] = {}
    for target in targets:
        name, _, share = target.rpartition("=")
        try:
            found[name or target] = float(share) if name else 1.0
        except ValueError:
            raise ValueError(f"--target takes NAME or NAME=SHARE, such as code=0.5, not {target!r}") from None
    return found


def write_report(folder: Path) -> Path | None:
    """The page beside the answer, where figures can be drawn."""
    from isoflop.report.mix_page import write_page

    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        return None
    return write_page(folder)


def described(config: MixConfig) -> str:
    """Every proxy's mixture, and what all of them take."""
    from isoflop.cli.tables import aligned
    from isoflop.mixing.design import design
    from isoflop.mixing.layout import proxy_config
    from isoflop.planning.shape import human

    run = proxy_config(config, config.natural)
    rows = [(name, *(f"{share:.1%}" for share in weights)) for name, weights in design(config).items()]
    limits = ", ".join(f"{human(limit)} {name}" for name, limit in zip(config.names, config.limits, strict=True))
    caps = ", ".join(f"{name} {cap:.1%}" for name, cap in zip(config.names, config.caps, strict=True))
    return "\n".join(
        [
            aligned([("proxy", *config.names), *rows]),
            f"{len(rows)} proxies of {human(run.shape.matmul)} parameters and {human(run.schedule.tokens)} tokens: "
            f"{len(rows) * run.flops:.3g} FLOPs",
            f"each draws on {limits} tokens, to repeat them as a run of {human(config.target_tokens)} tokens would",
            f"most shares within {config.epochs:g} epochs: {caps}",
        ]
    )


def told(found: dict[str, Any], folder: Path) -> str:
    """The answer as text: weights, gains, doubts."""
    from isoflop.cli.tables import aligned

    rows = [
        (
            source["name"],
            f"{source['weight']:.1%}",
            "{:.1%} to {:.1%}".format(*source["interval"]),
            f"{source['natural']:.1%}",
            f"{source['epochs']:.2f}",
        )
        for source in found["sources"]
    ]
    lines = [aligned([("source", "share", "95% of refits", "natural", "epochs"), *rows])]
    for reference, gain in found["gains"].items():
        low, high = gain["mean_interval"]
        lines.append(
            f"gain over the {reference} mixture: {gain['value']:+.4f} nats/token (95%: {low:+.4f} to {high:+.4f})"
        )
    for one in found["predictors"]:
        rank = "none" if one["spearman_left_out"] is None else f"{one['spearman_left_out']:.3f}"
        lines.append(
            f"{one['name']}, proxies left out: rank correlation {rank}, error {one['error_left_out']:.4f} nats"
        )
    lines += [f"note: {status}" for status in found["statuses"]]
    return "\n".join([*lines, f"mixture: {folder / 'mixture.toml'}"])
