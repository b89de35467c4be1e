"""Every form that can be fitted: recovered, globally optimal, indifferent to units, honest at its edges."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from isoflop.laws import (
    BESIROGLU_2024,
    BUSBRIDGE_2025_SUPERVISED,
    GADRE_2024_C4,
    GADRE_2024_REDPAJAMA,
    HOFFMANN_2022,
    KAPLAN_2020,
    KAPLAN_2020_LOSS_OF_C,
    MUENNIGHOFF_2023,
    Chinchilla,
    DataConstrained,
    KaplanSurface,
    OverTraining,
    PoweredSum,
    PowerLaw,
    SaturatingPowerLaw,
    fit,
)
from isoflop.laws.fitting.newton import EXPONENTS
from isoflop.laws.fitting.recipes import bind
from isoflop.laws.fitting.terms import huber

pytestmark = pytest.mark.filterwarnings("error")

SURFACES = [
    BESIROGLU_2024,
    HOFFMANN_2022,
    Chinchilla(0.6, 55.0, 0.30, 145.0, 0.31),
    Chinchilla(3.0, 12.0, 0.18, 2e4, 0.55),
    Chinchilla(0.05, 8.0, 0.12, 9.0, 0.10),
    Chinchilla(1e-3, 6.0, 0.08, 8.0, 0.09),  # hardly a floor
    Chinchilla(1.5, 4.0, 0.05, 5e3, 0.45),  # a size that hardly tells
    Chinchilla(1.9, 300.0, 0.40, 8.0, 0.06),  # data that hardly tell
    Chinchilla(2.0, 1e7, 1.2, 2e9, 1.1),  # steep
    Chinchilla(1.0, 40.0, 0.2, 1e12, 1.4),
    GADRE_2024_C4,
    GADRE_2024_REDPAJAMA,
    OverTraining(0.5, 12.0, 15.0, -0.1),
    OverTraining(2.5, 1e5, 1e6, -0.7),
    BUSBRIDGE_2025_SUPERVISED,
    PoweredSum(1.8, 500.0, 0.35, 2000.0, 0.37, 1.0),
    PoweredSum(2.0, 30.0, 0.2, 90.0, 0.25, 1.7),
    PoweredSum(0.5, 1e4, 0.7, 1e4, 0.6, 0.3),
    KAPLAN_2020,
    KaplanSurface(8.8e13, 0.08, 5e12, 0.12),
    KaplanSurface(1e10, 0.2, 3e11, 0.25),
    KaplanSurface(1e16, 0.05, 1e14, 0.06),
]
REPEATED = [
    MUENNIGHOFF_2023,
    DataConstrained(1.8, 482.0, 0.348, 2085.0, 0.366, 8.0, 3.0),
    DataConstrained(1.2, 50.0, 0.25, 150.0, 0.28, 4.0, 20.0),
    DataConstrained(2.2, 1e4, 0.5, 3e4, 0.5, 30.0, 8.0),
]
CURVES = [
    SaturatingPowerLaw(1.7, 4e7, 0.35),
    SaturatingPowerLaw(0.2, 1e13, 0.07),
    SaturatingPowerLaw(2.5, 3e6, 1.1),
    SaturatingPowerLaw(1.0, 1e9, 2.5),
    PowerLaw(20.0, -0.08),
    PowerLaw(KAPLAN_2020_LOSS_OF_C.scale**0.05, -0.05),
    PowerLaw(5e3, -0.4),
    PowerLaw(2e9, -1.3),
]


def isoflop_grid(shift=1.0):
    """Five budgets of six sizes about twenty tokens a parameter, or shifted to one side of that."""
    C = np.repeat(np.geomspace(1e16, 1e19, 5), 6)
    N = np.sqrt(C / 6 / 20) * np.tile(np.geomspace(1 / 6, 6, 6), 5) * shift
    return N, C / 6 / N


def rectangle():
    N, D = np.meshgrid(np.geomspace(2e6, 2e10, 7), np.geomspace(5e7, 5e12, 7))
    return N.ravel(), D.ravel()


def scattered(runs=40, seed=7):
    rng = np.random.default_rng(seed)
    return 10 ** rng.uniform(6.5, 10, runs), 10 ** rng.uniform(8, 12, runs)


GRIDS = {
    "isoflop": isoflop_grid(),
    "too large": isoflop_grid(8.0),
    "rectangle": rectangle(),
    "scattered": scattered(),
}


def table(law, N, D, noise=0.0, seed=0):
    """Runs of a law, with noise of a relative size; repeated data get one, three, ten or forty epochs."""
    runs = {"N": N, "D": D}
    if isinstance(law, DataConstrained):
        runs["U"] = D / np.tile([1, 3, 10, 40], len(N))[: len(N)]
        loss = law.loss(N, D, runs["U"])
    else:
        loss = law(N) if isinstance(law, PowerLaw | SaturatingPowerLaw) else law.loss(N, D)
    return runs | {"loss": loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(N)))}


def fit_form(runs, form, **options):
    one = form if isinstance(form, type) else type(form)
    return fit(runs, form, x="N" if one in (PowerLaw, SaturatingPowerLaw) else None, **options)


def numbers(law):
    return np.array([*law.parameters().values()])


# One noisy table for each form that can be fitted, for what must hold for all of them.
EVERY_FORM = [BESIROGLU_2024, GADRE_2024_C4, BUSBRIDGE_2025_SUPERVISED, KaplanSurface(1e10, 0.2, 3e11, 0.25)]
EVERY_FORM += [REPEATED[1], CURVES[0], CURVES[4]]
every_form = pytest.mark.parametrize("law", EVERY_FORM, ids=lambda law: type(law).__name__)
of_size_and_data = pytest.mark.parametrize("law", EVERY_FORM[:4], ids=lambda law: type(law).__name__)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("law", SURFACES, ids=str)
def test_noiseless_surfaces_are_recovered_on_any_design(law, grid):
    found = fit(table(law, *GRIDS[grid]), type(law))
    assert numbers(found.law) == pytest.approx(numbers(law), rel=1e-6)
    assert found.objective < 1e-20


@pytest.mark.parametrize("grid", ["too large", "scattered"])
@pytest.mark.parametrize("law", REPEATED, ids=str)
def test_noiseless_laws_of_repeated_data_are_recovered(law, grid):
    found = fit(table(law, *GRIDS[grid]), DataConstrained)
    assert numbers(found.law) == pytest.approx(numbers(law), rel=1e-6)


@pytest.mark.parametrize("law", CURVES, ids=str)
def test_noiseless_laws_of_one_variable_are_recovered(law):
    for x in (np.geomspace(1e6, 1e10, 9), np.geomspace(1e7, 1e8, 6), scattered()[0]):
        found = fit_form(table(law, x, 20 * x), type(law))
        assert numbers(found.law) == pytest.approx(numbers(law), rel=1e-6)


@pytest.mark.parametrize(
    "given",
    [{"E": 1.5}, {"alpha": 0.3}, {"A": 400.0}, {"B": 900.0, "beta": 0.4}, {"E": 0.0}, {"E": 1.6, "A": 333.3, "B": 1e3}],
    ids=str,
)
def test_what_is_held_stays_to_the_last_digit_and_the_rest_is_optimal(given):
    runs = table(BESIROGLU_2024, *scattered(24), noise=0.01)
    found = fit(runs, Chinchilla(**given), replicates=20)
    for name, value in given.items():
        place = [*found.law.parameters()].index(name)
        assert found.law.parameters()[name] == value
        assert np.all(found.draws[:, place] == value)
        assert name not in found.parameter_intervals()
    assert found.objective <= lowest(runs, Chinchilla, given, starts=10) * (1 + 1e-8)
    assert found.objective > fit(runs).objective


def test_a_held_law_is_found_where_it_is_true():
    for law in (BESIROGLU_2024, BUSBRIDGE_2025_SUPERVISED):
        runs, values = table(law, *GRIDS["isoflop"]), law.parameters()
        for names in (["E"], ["A"], ["beta"], ["A", "alpha"], ["E", "B", "beta"]):
            found = fit(runs, type(law)(**{name: values[name] for name in names}))
            assert numbers(found.law) == pytest.approx(numbers(law), rel=1e-6)


def test_what_cannot_be_held_is_said():
    runs = table(BESIROGLU_2024, *GRIDS["isoflop"])
    with pytest.raises(ValueError, match="alpha is held at -0.3; it must be positive"):
        fit(runs, Chinchilla(alpha=-0.3))
    with pytest.raises(ValueError, match="gamma is held at 0.0; it must be positive"):
        fit(runs, PoweredSum(gamma=0.0))
    with pytest.raises(ValueError, match="A is held at -1.0; it must not be negative"):
        fit(runs, Chinchilla(A=-1.0))
    with pytest.raises(ValueError, match="b of OverTraining cannot be held alone"):
        fit(runs, OverTraining(b=-0.3))
    with pytest.raises(ValueError, match="has no blank to fit"):
        fit(runs, BESIROGLU_2024)


def test_a_powered_sum_with_the_power_one_is_chinchillas():
    runs = table(BESIROGLU_2024, *scattered(24), noise=0.01)
    one, other = fit(runs, replicates=30), fit(runs, PoweredSum(gamma=1.0), replicates=30)
    assert other.objective == pytest.approx(one.objective, rel=1e-10)
    assert numbers(other.law)[:5] == pytest.approx(numbers(one.law), rel=1e-6)
    assert other.law.gamma == 1.0
    assert other.draws[:, 4] == pytest.approx(one.draws[:, 4], rel=1e-3)


def test_over_training_is_chinchillas_with_one_exponent():
    runs = table(BESIROGLU_2024, *scattered(24), noise=0.01)
    found = fit(runs, OverTraining)
    tied = [fit(runs, Chinchilla(alpha=a, beta=a)) for a in (-found.law.b, *np.linspace(0.15, 0.6, 10))]
    assert tied[0].objective == pytest.approx(found.objective, rel=1e-9)
    assert min(t.objective for t in tied) >= found.objective * (1 - 1e-9)
    assert tied[0].law.loss(1e9, 1e11) == pytest.approx(found.law.loss(1e9, 1e11), rel=1e-6)


def test_kaplans_surface_is_a_powered_sum_without_a_floor():
    runs = table(KAPLAN_2020, *scattered(24), noise=0.01)
    one, other = fit(runs, KaplanSurface), fit(runs, PoweredSum(E=0.0, beta=1.0))
    assert other.objective == pytest.approx(one.objective, rel=1e-9)
    assert other.law.loss(1e9, 1e11) == pytest.approx(one.law.loss(1e9, 1e11), rel=1e-6)
    assert other.law.E == 0.0


def test_repeats_that_are_worth_fresh_data_leave_chinchillas_law():
    runs = table(REPEATED[0], *scattered(24), noise=0.01)
    one, other = fit(runs), fit(runs, DataConstrained(R_D=1e60, R_N=1e60))
    assert other.objective == pytest.approx(one.objective, rel=1e-6)
    assert numbers(other.law)[:5] == pytest.approx(numbers(one.law), rel=1e-3)


def noisy_with_outliers(seed):
    """Few runs of one of four surfaces anywhere, 1% noise, and every eighth far off: many kinks and bent valleys."""
    rng = np.random.default_rng(seed)
    law = [BESIROGLU_2024, Chinchilla(0.6, 55, 0.3, 145, 0.31), Chinchilla(1.2, 5e5, 0.9, 3e3, 0.4)][seed % 3]
    count = [14, 20, 28][seed // 3 % 3]
    runs = table(law, 10 ** rng.uniform(6.5, 9, count), 10 ** rng.uniform(8, 11, count), 0.01, seed)
    far = rng.choice(count, count // 8, replace=False)
    runs["loss"][far] *= np.exp(0.15 * rng.standard_normal(far.size))
    return runs


def lowest(runs, form, given=None, starts=50, delta=1e-3, seed=0):
    """The lowest objective from random starts, by L-BFGS with a gradient of its own, over centred parameters."""
    rng, given = np.random.default_rng(seed), ({"gamma": 1.0} if form is Chinchilla else {}) | (given or {})
    n, d = np.log(runs["N"]), np.log(runs["D"])
    middle = {"A": n.mean(), "B": d.mean()}
    n, d, z = n - middle["A"], d - middle["B"], np.log(runs["loss"])
    names = ["E", "A", "alpha", "B", "beta", "gamma"]
    free = [i for i, name in enumerate(names) if name not in given]

    def filled(theta):
        full = np.zeros(6)
        full[free] = theta
        for name, value in given.items():
            full[names.index(name)] = np.log(max(value, 1e-250)) if name in "EAB" else value
        for coefficient, exponent in (("A", 2), ("B", 4)):
            if coefficient in given:
                full[exponent - 1] -= middle[coefficient] * full[exponent]
        return full

    def height(theta):
        e, a, alpha, b, beta, gamma = filled(theta)
        u, v = a - alpha * n, b - beta * d
        s = np.logaddexp(u, v)
        f = np.logaddexp(e, gamma * s)
        p, q = np.exp(gamma * s - f), np.exp(u - s)
        by = np.stack([1 - p, p * gamma * q, -p * gamma * q * n, p * gamma * (1 - q), -p * gamma * (1 - q) * d, p * s])
        for coefficient, exponent in (("A", 2), ("B", 4)):
            if coefficient in given:
                by[exponent] -= middle[coefficient] * by[exponent - 1]
        scale = 1e3  # so that tolerances are far below what matters
        return scale * huber(f - z, delta).sum(), scale * by[free] @ np.clip(f - z, -delta, delta)

    low = [-4, -5, math.log(0.03), -5, math.log(0.03), math.log(0.1)]
    high = [z.min(), 1, 1, 1, 1, 1.2]
    limits = [EXPONENTS if i in (2, 4, 5) else (None, None) for i in free]
    options = {"maxiter": 2000, "maxfun": 5000, "ftol": 1e-15, "gtol": 1e-12}
    best = np.inf
    for _ in range(starts):
        theta = rng.uniform(low, high)
        theta[[2, 4, 5]] = np.exp(theta[[2, 4, 5]])
        best = min(best, minimize(height, theta[free], jac=True, bounds=limits, method="L-BFGS-B", options=options).fun)
    return best / 1e3


@pytest.mark.parametrize("seed", range(4))
def test_no_random_start_ends_below_chinchillas_fit(seed):
    runs = noisy_with_outliers(seed)
    assert fit(runs).objective <= lowest(runs, Chinchilla) * (1 + 1e-8)


@pytest.mark.parametrize("seed", range(1))
def test_no_random_start_ends_below_a_powered_sums_fit(seed):
    runs = noisy_with_outliers(seed)
    assert fit(runs, PoweredSum).objective <= lowest(runs, PoweredSum, starts=40) * (1 + 1e-8)


def test_the_fit_is_where_a_search_goes_on_no_further():
    for seed in range(9, 18):
        found = fit(noisy_with_outliers(seed))
        problem = found.problem
        _, heights = problem.descend(found.theta[None], problem.z, problem.weights)
        assert heights[0] == pytest.approx(found.objective, rel=1e-9)


def test_runs_that_all_pull_with_constant_force_do_not_stop_the_search():
    # Noise and no law: at the first look no residual is within δ, so that a pure power has no curvature anywhere.
    N = scattered(30)[0]
    runs = {"N": N, "D": 20 * N, "loss": 3 * np.exp(0.01 * np.random.default_rng(0).standard_normal(30))}
    found = fit_form(runs, PowerLaw)
    heights = [huber(np.log(runs["loss"] * N**0.005) - c, 1e-3).sum() for c in np.log(3) + np.linspace(0, 0.2, 400)]
    assert found.objective <= min(heights)


@every_form
def test_gradients_and_curvatures_are_those_of_the_objective(law):
    rng = np.random.default_rng(0)
    runs = table(law, *scattered(20), noise=0.05)
    names = bind(type(law)(), {name: runs.get(name, runs["N"]) for name in "NDU" if name in runs} | {"x": runs["N"]})
    model = names.model
    theta = fit_form(runs, type(law)).theta + 0.02 * rng.standard_normal((3, len(model.names)))
    weights, delta, h = rng.uniform(0.5, 2.0, 20), 0.04, 1e-6
    z = model.log_loss(theta) + rng.choice([-0.1, -0.02, 0.015, 0.09], (3, 20))  # residuals on both sides of δ

    def heights(at):
        return (weights * huber(model.log_loss(at) - z, delta)).sum(axis=-1)

    slope, curvature = model.expand(theta, z, weights, delta)
    gradient = model.gradient(theta)
    for i in range(theta.shape[1]):
        step = h * (np.arange(theta.shape[1]) == i)
        by = (model.log_loss(theta + step) - model.log_loss(theta - step)) / (2 * h)
        assert gradient[..., i] == pytest.approx(by, rel=1e-6, abs=1e-8)
        assert slope[:, i] == pytest.approx(
            (heights(theta + step) - heights(theta - step)) / (2 * h), rel=1e-5, abs=1e-8
        )
        ahead, behind = (model.expand(theta + sign * step, z, weights, delta)[0] for sign in (1, -1))
        assert curvature[:, i] == pytest.approx((ahead - behind) / (2 * h), rel=1e-4, abs=1e-6)
    assert curvature == pytest.approx(np.swapaxes(curvature, 1, 2), rel=1e-9)


@every_form
def test_units_of_size_data_and_loss_do_not_matter(law):
    one = table(law, *scattered(30), noise=0.003)
    other = {name: column * {"loss": 1.44}.get(name, 1e-7) for name, column in one.items()}
    a, b = fit_form(one, type(law), replicates=20), fit_form(other, type(law), replicates=20)
    assert b.objective == pytest.approx(a.objective, rel=1e-6)
    assert b.residuals == pytest.approx(a.residuals, rel=1e-4, abs=1e-7)
    point = [1e9, 1e11, 2e10][: len(a.bound.recipe.variables)]
    here, there = a.predict(*point), b.predict(*(1e-7 * p for p in point))
    assert there.value == pytest.approx(1.44 * here.value, rel=1e-6)
    assert there.interval[1] == pytest.approx(1.44 * here.interval[1], rel=1e-3)


@every_form
def test_the_order_of_runs_does_not_matter(law):
    one = table(law, *scattered(30), noise=0.003)
    order = np.random.default_rng(1).permutation(30)
    a, b = fit_form(one, type(law)), fit_form({name: column[order] for name, column in one.items()}, type(law))
    assert b.objective == pytest.approx(a.objective, rel=1e-8)
    assert b.residuals == pytest.approx(a.residuals[order], rel=1e-5, abs=1e-8)
    assert b.residual_sd == pytest.approx(a.residual_sd, rel=1e-5)


@every_form
def test_a_weight_of_zero_leaves_a_run_out(law):
    runs = table(law, *scattered(30), noise=0.003)
    kept = np.arange(30) % 5 != 2
    runs["loss"][~kept] *= 1.5
    a = fit_form(runs, type(law), weights=2.0 * kept, replicates=20)
    b = fit_form({name: column[kept] for name, column in runs.items()}, type(law), weights=[2.0] * 24, replicates=20)
    assert str(a.law) == str(b.law)
    assert a.residual_sd == b.residual_sd
    assert a.freedom == b.freedom
    assert np.array_equal(a.draws, b.draws)
    assert not any(status.startswith("outliers") for status in a.statuses)
    assert a.runs.labels == tuple(f"row {i}" for i in np.flatnonzero(kept))


def test_too_few_runs_of_any_weight_are_refused():
    runs = table(BESIROGLU_2024, *scattered(30))
    with pytest.raises(ValueError, match="5 runs cannot determine 5 parameters"):
        fit(runs, weights=np.arange(30) < 5)


@every_form
def test_seeds_reproduce_and_intervals_nest(law):
    runs = table(law, *scattered(30), noise=0.003)
    one, same, other = (fit_form(runs, type(law), replicates=25, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(one.draws, same.draws)
    assert not np.array_equal(one.draws, other.draws)
    assert np.array_equal(numbers(one.law), numbers(other.law))
    point = [1e9, 1e11, 2e10][: len(one.bound.recipe.variables)]
    levels = 0.3, 0.6, 0.9
    predictions = [one.predict(*point, level=level) for level in levels]
    parameters = [one.parameter_intervals(level) for level in levels]
    for inner, outer in zip(parameters[:-1], parameters[1:], strict=True):
        for name, (low, high) in inner.items():
            assert outer[name][0] <= low <= high <= outer[name][1]
    for narrow, wide in zip(predictions[:-1], predictions[1:], strict=True):
        assert wide.confidence[0] <= narrow.confidence[0] <= narrow.confidence[1] <= wide.confidence[1]
        assert wide.interval[0] <= narrow.interval[0] <= narrow.interval[1] <= wide.interval[1]
        assert narrow.interval[0] <= narrow.confidence[0] <= narrow.confidence[1] <= narrow.interval[1]


@of_size_and_data
def test_drawn_optima_are_those_of_the_drawn_laws(law):
    for form in (type(law), replace(law, **dict.fromkeys([*law.parameters()][1:], math.nan))):
        if isinstance(law, OverTraining | KaplanSurface) and not isinstance(form, type):
            form = type(law)  # their own letters cannot be held alone
        found = fit(table(law, *scattered(30), noise=0.003), form, replicates=25)
        N, D = found.draw_optimum(1e21)
        for draw, n, d in zip(found.draws, N, D, strict=True):
            best = type(law)(*draw).optimal(1e21)
            assert (n, d) == pytest.approx((best.N, best.D), rel=1e-9)
        best = found.law.optimal(1e21)
        assert found.optimal(1e21).N.value == pytest.approx(best.N)
        loss = found.draw_means(best.N, best.D)
        assert loss == pytest.approx([type(law)(*draw).loss(best.N, best.D) for draw in found.draws], rel=1e-9)


def test_optimum_intervals_nest_and_multiply_to_the_budget():
    found = fit(table(BESIROGLU_2024, *scattered(30), noise=0.003), replicates=100)
    narrow, wide = (found.optimal(1e21, level=level) for level in (0.5, 0.9))
    for name in ("N", "D", "tokens_per_parameter", "loss"):
        inner, outer = getattr(narrow, name), getattr(wide, name)
        assert outer.confidence[0] < inner.confidence[0] < inner.confidence[1] < outer.confidence[1]
    assert 6 * wide.N.value * wide.D.value == pytest.approx(1e21)
    assert 6 * wide.N.confidence[0] * wide.D.confidence[1] == pytest.approx(1e21)


def test_a_point_that_is_none_is_refused():
    found = fit(table(BESIROGLU_2024, *scattered(30)), replicates=20)
    for value in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="D must be positive and finite to predict a loss"):
            found.predict(1e9, value)
    with pytest.raises(ValueError, match="Chinchilla is a law of N, D: give 2 values"):
        found.predict(1e9)


def said(law, **changes):
    """The statuses of a fit whose every number is one."""
    runs = table(law, *isoflop_grid()) | changes
    found = fit_form(runs, type(law), replicates=20)
    values = [*numbers(found.law), found.objective, found.residual_sd, *found.residuals, *found.draws.ravel()]
    assert np.all(np.isfinite(values))
    assert np.all(np.isfinite(np.array([*found.parameter_intervals().values()])))
    assert str(found)
    assert found.to_json()["statuses"] == list(found.statuses)
    return "\n".join(found.statuses)


N, D = isoflop_grid()
NOISE = np.exp(0.005 * np.random.default_rng(1).standard_normal(30))


def test_a_floor_of_zero_is_said():
    loss = (400 * N**-0.35 + 900 * D**-0.34) * NOISE
    for law in (BESIROGLU_2024, BUSBRIDGE_2025_SUPERVISED):
        assert "E is not identified" in said(law, loss=loss) or "put E at zero" in said(law, loss=loss)
    exact = fit({"N": N, "D": D, "loss": loss / NOISE}, replicates=20)
    assert exact.law.E < 1e-6
    assert exact.law.alpha == pytest.approx(0.35, rel=1e-6)
    assert any("replicates put E at zero" in status for status in exact.statuses)
    assert "floor is not identified" in said(CURVES[0], loss=30 * N**-0.1)


@pytest.mark.parametrize("law", [BESIROGLU_2024, BUSBRIDGE_2025_SUPERVISED], ids=lambda law: type(law).__name__)
def test_an_exponent_at_the_edge_is_said(law):
    steep = 1.5 + 400 * N**-0.35 + 3 * (D / 1e8) ** -8.0
    assert "beta is not identified: it ends at the edge" in said(law, loss=steep)
    assert "beta is not identified" in said(law, loss=(1.5 + 400 * N**-0.35) * NOISE)
    assert "alpha is not identified" in said(law, loss=(1.5 + 400 * D**-0.35) * NOISE)


def test_an_edge_is_named_in_the_forms_own_letters():
    flat = 3.0 * NOISE
    assert "\nb is not identified" in "\n" + said(GADRE_2024_C4, loss=flat)
    assert "\nexponent is not identified" in "\n" + said(CURVES[4], loss=flat)
    assert "\nalpha_N is not identified" in "\n" + said(EVERY_FORM[3], loss=3.0 + 5 * D**-0.5)
    assert "\nexponent is not identified" in "\n" + said(CURVES[0], loss=flat)


@pytest.mark.parametrize(
    "law", [BESIROGLU_2024, BUSBRIDGE_2025_SUPERVISED, REPEATED[1]], ids=lambda law: type(law).__name__
)
def test_two_sizes_or_token_counts_are_said(law):
    sizes = np.where(np.median(N) < N, 2e7, 1e7)
    assert "only 2 distinct model sizes: the exponent of N is not identified" in said(
        law, N=sizes, loss=BESIROGLU_2024.loss(sizes, D) * NOISE
    )
    tokens = np.where(np.median(D) < D, 2e9, 1e9)
    assert "only 2 distinct token counts: the exponent of D is not identified" in said(
        law, D=tokens, loss=BESIROGLU_2024.loss(N, tokens) * NOISE
    )


def test_two_sizes_suffice_where_data_share_the_exponent_or_there_is_no_floor():
    sizes = np.where(np.median(N) < N, 2e7, 1e7)
    for law in (GADRE_2024_C4, EVERY_FORM[3]):
        assert "distinct" not in said(law, N=sizes, loss=law.loss(sizes, D) * NOISE)
    held = fit({"N": sizes, "D": D, "loss": BESIROGLU_2024.loss(sizes, D)}, Chinchilla(E=BESIROGLU_2024.E))
    assert not any("distinct" in status for status in held.statuses)
    assert held.law.alpha == pytest.approx(BESIROGLU_2024.alpha, rel=1e-6)


@every_form
@pytest.mark.parametrize("kind", ["constant", "rising", "noise", "tiny", "huge"])
def test_hopeless_losses_are_answered_with_numbers_and_a_caution(law, kind):
    loss = {
        "constant": np.full(30, 3.0) + 1e-9 * np.arange(30),
        "rising": 1 + 0.001 * D**0.1 + 0.001 * N**0.1,
        "noise": 3.0 * NOISE**30,
        "tiny": 1e-12 * BESIROGLU_2024.loss(N, D) * NOISE,
        "huge": 1e12 * BESIROGLU_2024.loss(N, D) * NOISE,
    }[kind]
    statuses = said(law, loss=loss)
    if kind in ("constant", "rising"):
        assert "not identified" in statuses
