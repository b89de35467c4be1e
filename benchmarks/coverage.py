"""How often do 95% intervals hold the truth? Simulated sweeps of a known law, read at ten times the largest budget.

    python benchmarks/coverage.py --sweeps 400

Every scenario draws sweeps of six sizes a budget from Besiroglu et al.'s surface, adds noise, and asks the surface fit
and the IsoFLOP analysis for the optimum and the loss at ten times the largest budget. Grids are centred on the optimum
or off it by a factor of two; noise is 0.5% everywhere, or falls from 1.5% at the smallest budget to a quarter of a
percent at the largest, or is 0.5% with one run in twenty 3 to 10% too high. Columns are the share of sweeps whose
interval held the truth: the surface's N*, mean loss (confidence), a new run's loss (prediction), α, β, E, the profile
of β (every third sweep); the minima's N* and the loss of a new run. Simulation error is a point with 400 sweeps.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np

from isoflop.laws import BESIROGLU_2024, analyse, fit
from isoflop.laws.fitting.profile import profile

LAW = BESIROGLU_2024
REACH = 10.0
SIZES = 6


def sweep(rng: np.random.Generator, budgets: int, grid: str, noise: str) -> dict[str, np.ndarray]:
    C = np.repeat(np.geomspace(1e17, 1e17 * 2.0 ** (budgets - 1), budgets), SIZES)
    best = np.array([LAW.optimal(c).N for c in C])
    low, high = {"centred": (1 / 4, 4), "off-centre": (1 / 2, 8)}[grid]
    N = best * np.tile(np.geomspace(low, high, SIZES), budgets)
    D = C / 6 / N
    sd = np.full(C.size, 0.005)
    if noise == "uneven":
        sd = 0.005 * np.interp(np.log(C), [np.log(C[0]), np.log(C[-1])], [3.0, 0.5])
    errors = sd * rng.standard_normal(C.size)
    if noise == "outliers":
        errors += (rng.random(C.size) < 0.05) * rng.uniform(0.03, 0.10, C.size)
    return {"N": N, "D": D, "C": C, "loss": np.asarray(LAW.loss(N, D)) * np.exp(errors), "sd": sd}


def held(interval: tuple[float, float], truth: float) -> bool:
    return bool(interval[0] <= truth <= interval[1])


def one(
    rng: np.random.Generator, budgets: int, grid: str, noise: str, replicates: int, profiled: bool
) -> dict[str, bool]:
    runs = sweep(rng, budgets, grid, noise)
    sd = runs.pop("sd")
    C = REACH * float(runs["C"].max())
    truth = LAW.optimal(C)
    seed = int(rng.integers(2**31))
    surface = fit(runs, replicates=replicates, seed=seed)
    new = np.exp(float(np.median(sd)) * rng.standard_normal())
    found = {}
    told = surface.predict(truth.N, truth.D)
    N, _ = surface.draw_optimum(C)
    found["N*"] = held(tuple(np.quantile(N, [0.025, 0.975])), truth.N)
    found["mean"] = held(told.confidence, truth.loss)
    found["run"] = held(told.interval, truth.loss * new)
    intervals = surface.parameter_intervals()
    for name in ("alpha", "beta", "E"):
        found[name] = held(intervals[name], getattr(LAW, name))
    if profiled:
        found["β prof."] = held(profile(surface, "beta").interval(), LAW.beta)
    try:
        minima = analyse(**runs, replicates=replicates, seed=seed)
    except ValueError:
        return found
    found["minima N*"] = held(minima.params_at(C).confidence, truth.N)
    found["minima run"] = held(minima.loss_at(C).interval, truth.loss * new)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=400)
    parser.add_argument("--replicates", type=int, default=400)
    parser.add_argument("--budgets", type=int, nargs="+", default=[3, 5, 10])
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    columns = ["N*", "mean", "run", "alpha", "beta", "E", "β prof.", "minima N*", "minima run"]
    print(f"{'budgets':<8}{'grid':<12}{'noise':<10}" + "".join(f"{c:>11}" for c in columns))
    for budgets, grid, noise in itertools.product(a.budgets, ("centred", "off-centre"), ("even", "uneven", "outliers")):
        rng = np.random.default_rng([a.seed, budgets, len(grid), len(noise)])
        results = [one(rng, budgets, grid, noise, a.replicates, i % 3 == 0) for i in range(a.sweeps)]
        rates = [[r[c] for r in results if c in r] for c in columns]
        shown = "".join(f"{np.mean(r):>11.1%}" if len(r) >= len(results) / 3 else f"{'-':>11}" for r in rates)
        print(f"{budgets:<8}{grid:<12}{noise:<10}{shown}", flush=True)


if __name__ == "__main__":
    main()
