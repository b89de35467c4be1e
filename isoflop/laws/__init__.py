"""Scaling laws: forms, published constants, surface fits and IsoFLOP analysis. numpy only; never torch."""

from .forms import Allocation, Chinchilla, Law, PowerLaw, SaturatingPowerLaw
from .isoflop import IsoFLOPAnalysis, analyse
from .parabola import Curve
from .prediction import Prediction
from .published import BESIROGLU_2024, HOFFMANN_2022, LLAMA3_TOKENS
from .surface import OptimalPrediction, SurfaceFit, fit_surface

__all__ = [
    "BESIROGLU_2024",
    "HOFFMANN_2022",
    "LLAMA3_TOKENS",
    "Allocation",
    "Chinchilla",
    "Curve",
    "IsoFLOPAnalysis",
    "Law",
    "OptimalPrediction",
    "PowerLaw",
    "Prediction",
    "SaturatingPowerLaw",
    "SurfaceFit",
    "analyse",
    "fit_surface",
]
