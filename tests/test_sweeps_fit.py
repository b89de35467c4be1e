import numpy as np
import pytest

from isoflop import laws
from isoflop.sweeps.fit import choose_form


def runs_of(law, budgets, seed, noise=0.003):
    """A sweep of six sizes at each budget about the law's own optimum, with noise."""
    C = np.repeat(budgets, 6)
    N = np.array([law.optimal(c).N for c in C]) * np.tile(np.geomspace(0.4, 2.5, 6), len(budgets))
    loss = law.loss(N, C / 6 / N) * np.exp(noise * np.random.default_rng(seed).standard_normal(C.size))
    return laws.read_runs({"N": N, "D": C / 6 / N, "loss": loss})


# What sweeps of a quickstart look like: a powered sum with γ well below one, over a factor of 32 in compute.
SMALL_MODELS = laws.PoweredSum(E=0.6, A=7.4e5, alpha=0.75, B=1.9e6, beta=0.65, gamma=0.23)


@pytest.mark.parametrize("seed", range(3))
def test_the_form_that_predicts_the_sweeps_own_larger_budgets_is_chosen(seed):
    form, said = choose_form(runs_of(SMALL_MODELS, np.geomspace(5e11, 1.6e13, 6), seed))
    assert form is laws.PoweredSum
    assert said.startswith("the surface is PoweredSum: errors when rolling forward")
    assert "Chinchilla" in said


def test_too_few_budgets_leave_the_form_unchosen_and_say_why():
    form, said = choose_form(runs_of(SMALL_MODELS, np.geomspace(5e11, 2e12, 3), 0))
    assert form is laws.Chinchilla
    assert "unchosen: the runs have 3 budgets" in said
