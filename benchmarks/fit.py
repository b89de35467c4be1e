"""A global fit of Chinchilla's 240 runs and its bootstrap, on one core, beside how the field does it.

    python benchmarks/fit.py --data ../shared/data/scaling/epoch/svg_extracted_data.csv --rounds 3

Alternating in one process, pinned to one core with one BLAS thread:

- isoflop: ``fit`` (no starts to choose), its search alone, and 4,000 bootstrap replicates by ``refits``.
- grid: L-BFGS from Hoffmann et al.'s 4,500 starts on the Huber-of-log objective as a log-sum-exp, and a BFGS bootstrap
  from the optimum. It is given the exact gradient, so it is faster than with the numerical or traced ones in use.
- chinchilla: the PyPI package (``pip install chinchilla``), BFGS over its own grid with the same objective. Its
  grid here is smaller (see --starts), so that a round ends; its time a start is printed too. Left out if not installed.

The bootstraps of the others are timed on --peer-replicates and given per replicate. Every fit's objective is printed:
speed without the optimum is worth nothing.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from isoflop.laws import Runs, fit, read_runs
from isoflop.laws.fitting.bootstrap import refits
from isoflop.laws.fitting.terms import huber

DELTA = 1e-3
AXES = (np.linspace(0, 25, 6), np.linspace(0, 25, 6), np.linspace(-1, 1, 5), np.linspace(0, 2, 5), np.linspace(0, 2, 5))
STARTS = list(itertools.product(*AXES))


def objective(theta: np.ndarray, n: np.ndarray, d: np.ndarray, z: np.ndarray) -> tuple[float, np.ndarray]:
    """Hoffmann et al.'s objective over (a, b, e, α, β) and its gradient."""
    a, b, e, alpha, beta = theta
    u = np.stack([a - alpha * n, b - beta * d, np.full_like(n, e)])
    top = u.max(axis=0)
    shares = np.exp(u - top)
    total = shares.sum(axis=0)
    shares /= total
    r = top + np.log(total) - z
    pull = np.clip(r, -DELTA, DELTA)
    gradient = [pull @ shares[0], pull @ shares[1], pull @ shares[2], -pull @ (shares[0] * n), -pull @ (shares[1] * d)]
    return float(huber(r, DELTA).sum()), np.array(gradient)


def grid_fit(runs: Runs) -> tuple[np.ndarray, float]:
    columns = np.log(runs.N), np.log(runs.D), np.log(runs.loss)
    found = [minimize(objective, start, args=columns, jac=True, method="L-BFGS-B") for start in STARTS]
    best = min(found, key=lambda result: result.fun)
    return best.x, float(best.fun)


def grid_bootstrap(runs: Runs, optimum: np.ndarray, replicates: int) -> None:
    rng = np.random.default_rng(0)
    n, d, z = np.log(runs.N), np.log(runs.D), np.log(runs.loss)
    for _ in range(replicates):
        rows = rng.integers(0, len(runs), len(runs))
        minimize(objective, optimum, args=(n[rows], d[rows], z[rows]), jac=True, method="BFGS")


def chinchilla_fit(runs: Runs, side: int) -> float:
    """The package as its documentation uses it; returns the objective that its answer reaches."""
    import pandas as pd
    from chinchilla import Chinchilla

    def log_huber(y: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        return huber(np.log(predicted) - np.log(y), DELTA)

    grid = {
        "e": np.linspace(0, 1, side),
        "a": np.linspace(4, 8, side),
        "b": np.linspace(4, 8, side),
        "alpha": np.linspace(0.2, 0.6, side),
        "beta": np.linspace(0.2, 0.6, side),
    }
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        peer = Chinchilla(folder, param_grid=grid, loss_fn=log_huber, log_level=50)
        peer.database.df = pd.DataFrame({"C": 6 * runs.N * runs.D, "N": runs.N, "D": runs.D, "loss": runs.loss})
        peer.fit()
    predicted = peer.E + peer.A / runs.N**peer.alpha + peer.B / runs.D**peer.beta
    return float(huber(np.log(np.asarray(predicted, float)) - np.log(runs.loss), DELTA).sum())


def timed(work: Callable[[], object], repeats: int = 1) -> tuple[float, object]:
    begin = time.perf_counter()
    for _ in range(repeats):
        result = work()
    return (time.perf_counter() - begin) / repeats, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="Chinchilla's 245 points, svg_extracted_data.csv")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--replicates", type=int, default=4000)
    parser.add_argument("--peer-replicates", type=int, default=100)
    parser.add_argument("--starts", type=int, default=3, help="points per axis of the chinchilla package's grid")
    a = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    everything = read_runs(a.data)
    runs = everything.take(np.sort(np.argsort(everything.loss)[:-5]))
    problem, ours = (once := fit(runs)).problem, once.objective  # imports and caches are paid for
    law = once.law
    start = np.array([np.log(law.A), np.log(law.B), np.log(law.E), law.alpha, law.beta])
    rows: dict[str, list[float]] = {name: [] for name in ("fit", "search", "bootstrap", "grid", "grid boot", "package")}
    for _ in range(a.rounds):
        seconds, _ = timed(lambda: fit(runs), 20)
        rows["fit"].append(seconds)
        seconds, _ = timed(problem.minimum, 20)
        rows["search"].append(seconds)
        seconds, _ = timed(lambda: refits(problem, once.theta, once.residuals, a.replicates, 0))
        rows["bootstrap"].append(seconds)
        seconds, (_, height) = timed(lambda: grid_fit(runs))
        rows["grid"].append(seconds)
        seconds, _ = timed(lambda: grid_bootstrap(runs, start, a.peer_replicates))
        rows["grid boot"].append(seconds / a.peer_replicates)
        with contextlib.suppress(ModuleNotFoundError):
            seconds, package = timed(lambda: chinchilla_fit(runs, a.starts))
            rows["package"].append(seconds)
    report(rows, a, ours, height, package if rows["package"] else None)


def report(
    rows: dict[str, list[float]], a: argparse.Namespace, ours: float, grid: float, package: float | None
) -> None:
    def middle(name: str) -> float:
        return statistics.median(rows[name])

    def ratio(name: str, base: str) -> float:
        return statistics.median(x / y for x, y in zip(rows[name], rows[base], strict=True))

    each, search, starts = middle("bootstrap") / a.replicates * 1e3, middle("search") * 1e3, len(STARTS)
    print(f"isoflop     fit {middle('fit') * 1e3:8.1f} ms (search {search:.1f} ms), objective {ours:.9f}")
    print(f"            {a.replicates} replicates {middle('bootstrap'):.2f} s, {each:.3f} ms each")
    grids, boots = ratio("grid", "fit"), ratio("grid boot", "bootstrap") * a.replicates
    print(f"grid        fit {middle('grid') * 1e3:8.0f} ms = {grids:.0f} x, objective {grid:.9f}, {starts} starts")
    print(f"            a replicate {middle('grid boot') * 1e3:.2f} ms = {boots:.0f} x")
    if package is None:
        print("chinchilla  not installed (pip install chinchilla)")
        return
    start = middle("package") / a.starts**5
    print(
        f"chinchilla  fit {middle('package') * 1e3:8.0f} ms = {ratio('package', 'fit'):.0f} x, objective {package:.9f},"
    )
    print(f"            {a.starts**5} starts, {start * 1e3:.0f} ms each")


if __name__ == "__main__":
    main()
