"""Which forms can be fitted to runs, and how each one's parameters stand to the fitter's θ.

A recipe binds a law with blanks to columns of runs: the model that the search sees, the entries of θ that are held
because the law has them already, and the way from θ back to the law's own parameters. The columns are centred so
that the scale of N and D does not matter to the search; the recipes here are the one place that knows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..forms.chinchilla import Chinchilla
from ..forms.distillation import PoweredSum as PoweredSumLaw
from ..forms.kaplan import KaplanSurface
from ..forms.law import Array, Law, Mask
from ..forms.overtraining import OverTraining
from ..forms.power import PowerLaw, SaturatingPowerLaw
from ..forms.repetition import DataConstrained
from .curved import Curved, Repeated
from .newton import Model
from .powered import PoweredSum
from .terms import CHINCHILLA, PowerTerms, Term

Parameters = dict[str, Array]
Binder = Callable[[Mapping[str, Array], int, Mapping[str, float]], Model]


@dataclass(frozen=True)
class Recipe:
    """How to fit one form.

    ``variables`` are the columns it needs. ``scales`` maps each coefficient of θ (a logarithm) to the column that it
    is centred with and that column's exponent; ``logs`` are further entries of θ that are logarithms. ``natural`` turns
    uncentred internal parameters into the law's, where the names or meanings differ, and ``called`` says which of the
    law's an internal exponent is, up to sign or scale; ``fixed`` are internal parameters that the form never varies.
    """

    variables: tuple[str, ...]
    bind: Binder
    scales: Mapping[str, tuple[str, str] | None]
    fixed: Mapping[str, float] = field(default_factory=dict)
    logs: tuple[str, ...] = ()
    natural: Callable[[Parameters], Parameters] | None = None
    called: Mapping[str, str] = field(default_factory=dict)


def power_terms(*terms: Term) -> Binder:
    """Bind a sum of powers."""
    return lambda x, runs, centre: PowerTerms(x, runs, terms)


def powered_sum(x: Mapping[str, Array], runs: int, centre: Mapping[str, float]) -> Model:
    """Bind a power of a sum of powers."""
    return PoweredSum(x=x, runs=runs)


def power(base: Array, exponent: Array) -> Array:
    """base^exponent, kept finite: where an exponent is not identified the scale beside it is no number at all."""
    return np.asarray(np.exp(np.clip(np.log(base) * exponent, -600, 600)))


def repeated(x: Mapping[str, Array], runs: int, centre: Mapping[str, float]) -> Model:
    """Bind the law of repeated data."""
    return Repeated(x, runs, centre)


BOTH: Mapping[str, tuple[str, str] | None] = {"E": None, "A": ("N", "alpha"), "B": ("D", "beta")}

RECIPES: dict[type[Law], Recipe] = {
    Chinchilla: Recipe(("N", "D"), power_terms(*CHINCHILLA), BOTH),
    OverTraining: Recipe(
        ("N", "D"),
        power_terms(Term("E"), Term("A", "N", "eta"), Term("B", "D", "eta")),
        {"E": None, "A": ("N", "eta"), "B": ("D", "eta")},
        natural=lambda p: {"E": p["E"], "a": p["A"], "beta": p["B"] * 6 ** (p["eta"] / 2), "b": -p["eta"]},
        called={"eta": "b"},
    ),
    SaturatingPowerLaw: Recipe(
        ("x",),
        power_terms(Term("floor"), Term("fall", "x", "exponent")),
        {"floor": None, "fall": ("x", "exponent")},
        natural=lambda p: p | {"scale": power(p["fall"], 1 / p["exponent"])},
    ),
    PowerLaw: Recipe(
        ("x",),
        power_terms(Term("coefficient", "x", "fall")),
        {"coefficient": ("x", "fall")},
        natural=lambda p: p | {"exponent": -p["fall"]},
        called={"fall": "exponent"},
    ),
    PoweredSumLaw: Recipe(("N", "D"), powered_sum, BOTH),
    KaplanSurface: Recipe(
        ("N", "D"),
        powered_sum,
        BOTH,
        fixed={"E": 0.0, "beta": 1.0},
        natural=lambda p: {
            "Nc": power(p["A"], 1 / p["alpha"]),
            "alpha_N": p["alpha"] * p["gamma"],
            "Dc": p["B"],
            "alpha_D": p["gamma"],
        },
        called={"alpha": "alpha_N", "gamma": "alpha_D"},
    ),
    DataConstrained: Recipe(("N", "D", "U"), repeated, BOTH, logs=("R_D", "R_N")),
}


@dataclass(frozen=True, eq=False)
class Bound:
    """A form bound to runs: the model, what is held, and the frame."""

    form: Law
    model: Model
    centre: Mapping[str, float]
    held: Mapping[int, float]

    @property
    def recipe(self) -> Recipe:
        """How the form is fitted; looked up, so that a fit can be pickled."""
        return _recipe(self.form)

    @property
    def free(self) -> tuple[str, ...]:
        """The names of θ's entries that are fitted."""
        return tuple(name for i, name in enumerate(self.model.names) if i not in self.held)

    def called(self, name: str) -> str:
        """Say an entry of θ in the law's own words."""
        return self.recipe.called.get(name, name)

    @property
    def mask(self) -> Mask:
        """Marks the held entries of θ."""
        return np.array([i in self.held for i in range(len(self.model.names))])

    def at(self, columns: Mapping[str, Array]) -> Model:
        """Bind the same form, in the same frame, to other points."""
        logs = {name: np.log(columns[name]) - self.centre[name] for name in self.recipe.variables}
        return self.recipe.bind(logs, next(iter(logs.values())).size, self.centre)

    def internal(self, theta: Array) -> Parameters:
        """Turn θ of shape (batch, entries) into uncentred internal parameters by name."""
        named = dict(zip(self.model.names, theta.T, strict=True))
        found = {}
        for name, values in named.items():
            if name in self.recipe.scales:
                scale = self.recipe.scales[name]
                shift = 0.0
                if scale is not None:
                    column, exponent = scale
                    shift = self.centre[column] * named[exponent]
                found[name] = np.exp(np.clip(values + shift, -600, 600))
            else:
                found[name] = np.exp(np.clip(values, -600, 600)) if name in self.recipe.logs else values
        return found

    def natural(self, theta: Array) -> Array:
        """Turn θ of shape (batch, entries) into the law's parameters, in the order of its fields."""
        found = self.internal(theta)
        if self.recipe.natural is not None:
            found = self.recipe.natural(found)
        given = self.form.parameters()  # what is held comes back as it was given, to the last digit
        blanks = self.form.blanks()
        columns = [found[name] if name in blanks else np.full(len(theta), given[name]) for name in given]
        return np.stack(columns, axis=-1)

    def trade_off(self, theta: Array) -> tuple[Array, Array, Array, Array]:
        """Return A, α, B and β of the sum A/N^α + B/D^β in which N and D meet, each (batch,).

        Raises ValueError for a form of other variables.
        """
        internal = self.internal(theta)
        found: list[Array] = []
        for variable in ("N", "D"):
            for coefficient, scale in self.recipe.scales.items():
                if scale is not None and scale[0] == variable:
                    found += [internal[coefficient], internal[scale[1]]]
        if len(found) != 4:
            raise ValueError(f"{type(self.form).__name__} is not a law of N and D: it has no compute-optimal point")
        return found[0], found[1], found[2], found[3]

    def law(self, theta: Array) -> Law:
        """Make the law of one θ."""
        return type(self.form)(*(float(v) for v in self.natural(theta[None])[0]))


def bind(form: Law, columns: Mapping[str, Array]) -> Bound:
    """Bind a law with blanks to columns (each (runs,)); the parameters that it has are held.

    Raises ValueError for a form without a recipe, for one without blanks, and for a held parameter that cannot be
    held alone because the search knows it only together with others.
    """
    recipe = _recipe(form)
    given = {name: value for name, value in form.parameters().items() if name not in form.blanks()}
    if not form.blanks():
        raise ValueError(f"{form!r} has no blank to fit; leave the parameters out that are wanted")
    held_columns = {scale[0] for name in given if (scale := recipe.scales.get(name)) is not None}
    logs = {name: np.log(columns[name]) for name in recipe.variables}
    # A coefficient that is held in the user's units stays put only if its column is not shifted.
    centre = {name: 0.0 if name in held_columns else float(log.mean()) for name, log in logs.items()}
    model = recipe.bind(
        {name: log - centre[name] for name, log in logs.items()}, len(logs[recipe.variables[0]]), centre
    )
    held = {}
    for name, value in {**given, **recipe.fixed}.items():
        if name not in model.names:
            raise ValueError(f"{name} of {type(form).__name__} cannot be held alone; leave it out or fit another form")
        is_log = name in recipe.scales or name in recipe.logs
        if value < 0 or (value == 0 and not is_log):
            raise ValueError(f"{name} is held at {value}; it must {'not be negative' if is_log else 'be positive'}")
        held[model.names.index(name)] = float(np.log(max(value, 1e-250))) if is_log else value
    if isinstance(model, Curved):
        model = replace(model, free=tuple(i for i in range(len(model.names)) if i not in held))
    return Bound(form, model, centre, held)


def variables_of(form: Law) -> tuple[str, ...]:
    """Name the columns that a form is a law of. Raises ValueError for a form that cannot be fitted to runs."""
    return _recipe(form).variables


def _recipe(form: Law) -> Recipe:
    recipe = RECIPES.get(type(form))
    if recipe is None:
        known = ", ".join(sorted(law.__name__ for law in RECIPES))
        raise ValueError(f"{type(form).__name__} cannot be fitted to runs; these can: {known}")
    return recipe
