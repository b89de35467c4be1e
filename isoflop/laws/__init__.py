"""Scaling laws: forms, published constants, surface fits and IsoFLOP analysis. numpy and scipy; never torch."""

from .fitting.isoflop import IsoFLOPAnalysis, analyse
from .fitting.parabola import Curve
from .fitting.prediction import Prediction
from .fitting.surface import OptimalPrediction, SurfaceFit, fit_surface
from .forms.chinchilla import BESIROGLU_2024, HOFFMANN_2022, Chinchilla
from .forms.law import Law
from .forms.power import LLAMA3_TOKENS, PowerLaw, SaturatingPowerLaw
from .forms.surface import Allocation, LossSurface
from .library import LIBRARY

__all__ = [
    "BESIROGLU_2024",
    "HOFFMANN_2022",
    "LIBRARY",
    "LLAMA3_TOKENS",
    "Allocation",
    "Chinchilla",
    "Curve",
    "IsoFLOPAnalysis",
    "Law",
    "LossSurface",
    "OptimalPrediction",
    "PowerLaw",
    "Prediction",
    "SaturatingPowerLaw",
    "SurfaceFit",
    "analyse",
    "fit_surface",
]
