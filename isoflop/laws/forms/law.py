"""What every scaling law is: an immutable value that prints its formula and goes to JSON and back.

A law says nothing of where its numbers came from: a published one and one fitted from your own runs are the
same type. A parameter that is left out is a *blank*: ``Chinchilla()`` is the form itself, ``Chinchilla(E=1.7)`` the
form with a known entropy, and fitting fills the blanks in. Symbols throughout: N parameters, D training tokens,
C training FLOPs, L loss in nats per token. Which N (embeddings counted or not) and which C (6ND or exact) a law
means is a property of the runs it was fitted to; the library of published laws says it for each of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
Values = Any
"""A float for numbers, an array for arrays: what a law gives back has the shape of what it was asked."""

BLANK = math.nan
"""The value of a parameter that is yet to be fitted."""

GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "epsilon": "ε", "omega": "ω"}


class Law:
    """A form with numbers. A new form is a frozen dataclass whose fields default to :data:`BLANK`.

    ``kind`` is the name of the form in JSON; ``formula`` is a format string over the parameters, which prints a
    blank as its letter. Declare subclasses with ``@dataclass(frozen=True, repr=False)`` and a kind; a class
    without a kind is abstract.
    """

    kind: ClassVar[str]
    formula: ClassVar[str]
    _forms: ClassVar[dict[str, type[Law]]] = {}

    def __init_subclass__(cls, kind: str | None = None) -> None:
        if kind is not None:
            cls.kind = kind
            Law._forms[kind] = cls

    def __post_init__(self) -> None:
        for name, value in self.parameters().items():
            number = float(value)
            if math.isinf(number):
                raise ValueError(f"{self.kind} law: {name} is {number}; every parameter must be a finite number")
            object.__setattr__(self, name, BLANK if math.isnan(number) else number)

    @staticmethod
    def forms() -> dict[str, type[Law]]:
        """Give every form by its kind."""
        return dict(sorted(Law._forms.items()))

    def parameters(self) -> dict[str, float]:
        """Give the law's numbers by name, in the order of its fields; a blank is NaN."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def blanks(self) -> tuple[str, ...]:
        """Name the parameters that are yet to be fitted."""
        return tuple(name for name, value in self.parameters().items() if math.isnan(value))

    def __str__(self) -> str:
        values = self.parameters()
        shown = {name: letter(name) if math.isnan(value) else f"{value:.6g}" for name, value in values.items()}
        return self.formula.format(**shown).replace("+ -", "- ")

    def __repr__(self) -> str:
        return f"{type(self).__name__}[{self}]"

    def to_json(self) -> dict[str, object]:
        """Give a dict that ``json`` can write: the kind, then every parameter at full precision.

        Raises ValueError for a law with blanks: a form without numbers is not a result.
        """
        if self.blanks():
            raise ValueError(f"the {self.kind} law has no value for {', '.join(self.blanks())}: fit it first")
        return {"kind": self.kind, **self.parameters()}

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Self:
        """Read what :meth:`to_json` wrote; ``Law.from_json`` reads any form, a subclass only its own.

        Raises ValueError for an unknown or unexpected kind, and for missing, unknown or non-numeric
        parameters.
        """
        kind = data.get("kind")
        form = Law._forms.get(kind) if isinstance(kind, str) else None
        if form is None or not issubclass(form, cls):
            known = ", ".join(sorted(name for name, other in Law._forms.items() if issubclass(other, cls)))
            raise ValueError(f"law kind {kind!r} cannot be read here; expected one of: {known}")
        return form.read_parameters(data)

    @classmethod
    def read_parameters(cls, data: Mapping[str, object]) -> Self:
        """Read this form's parameters; a form whose parameters are not all numbers overrides it."""
        wanted = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        if set(data) - {"kind"} != set(wanted):
            given = ", ".join(sorted(set(data) - {"kind"})) or "none"
            raise ValueError(f"a {cls.kind} law has parameters {', '.join(wanted)}; the data has {given}")
        for name in wanted:
            number = data[name]
            if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
                raise ValueError(f"{cls.kind} law: {name} is {number!r}; it must be a finite number")
        return cls(**{name: data[name] for name in wanted})


def letter(name: str) -> str:
    """Write a parameter's name as papers do: alpha_N is αN."""
    stem, _, index = name.partition("_")
    return GREEK[stem] + index if stem in GREEK else name


def positive(name: str, values: ArrayLike) -> Array:
    """Return ``values`` as floats; raises ValueError unless all of them are positive and finite."""
    array = np.asarray(values, float)
    if not np.all(np.isfinite(array) & (array > 0)):
        raise ValueError(f"{name} must be positive and finite, not {values!r}")
    return array
