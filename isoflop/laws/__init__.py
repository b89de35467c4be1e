"""Scaling laws: every published form as a value, robust global fits, intervals carried to the decision, validation.

    >>> from isoflop import laws
    >>> laws.BESIROGLU_2024.optimal(1e22)
    >>> laws.fit("runs.csv", laws.Chinchilla(), replicates=1000).optimal(1e22)

numpy alone on import; scipy inside what needs it; never torch.
"""

from .fitting.comparison import Comparison, compare
from .fitting.downstream import LogLinearFit, TwoStepFit, fit_log_linear, fit_two_step
from .fitting.fit import Fit, OptimalPrediction, fit
from .fitting.isoflop import IsoFLOPAnalysis, analyse
from .fitting.mixture import MixtureFit, fit_mixture, regress_on_proxies
from .fitting.next_run import Candidate, candidates_at, rank_candidates
from .fitting.optimal_mixture import OptimalMixture, optimal_mixture, repetition_caps, simulated_mixture
from .fitting.parabola import Curve
from .fitting.powers import PowersFit, fit_powers
from .fitting.prediction import Prediction
from .fitting.profile import Profile, profile
from .fitting.runs import Runs, read_runs
from .fitting.score import ScoreFit, fit_score
from .fitting.validation import Validation, validate
from .forms.chinchilla import BESIROGLU_2024, HOFFMANN_2022, Chinchilla
from .forms.counting import PEARCE_2024, EmbeddingBridge
from .forms.distillation import BUSBRIDGE_2025_SUPERVISED, Distillation, PoweredSum
from .forms.downstream import OLMO_LADDER_MMLU, ExponentialError, LogLinear, LogSigmoid, ScoreLaw, Sigmoid, TwoStep
from .forms.experts import CLARK_2022_HASH, CLARK_2022_RLR, CLARK_2022_SBASE, RoutingLaw
from .forms.farseer import Farseer
from .forms.hyperparameters import (
    DEEPSEEK_BATCH,
    DEEPSEEK_FLOPS_PER_TOKEN,
    DEEPSEEK_LEARNING_RATE,
    DEEPSEEK_TOKENS,
    MARIN_BETA2,
    MARIN_LEARNING_RATE,
    MINICPM_BATCH,
    NANOCHAT_BATCH,
    NANOCHAT_LEARNING_RATE,
    NANOCHAT_WEIGHT_DECAY,
    OLMO_CORE_BATCH,
    OLMO_CORE_LEARNING_RATE,
    POWER_LINES_BATCH,
    STEP_LAW_BATCH,
    STEP_LAW_LEARNING_RATE,
    PowerProduct,
    Proportion,
    SecondMomentDecay,
)
from .forms.kaplan import (
    KAPLAN_2020,
    KAPLAN_2020_BATCH,
    KAPLAN_2020_CRITICAL_BATCH,
    KAPLAN_2020_ENOUGH_DATA,
    KAPLAN_2020_LOSS_OF_C,
    KAPLAN_2020_LOSS_OF_D,
    KAPLAN_2020_LOSS_OF_N,
    KAPLAN_2020_SIZE,
    KAPLAN_2020_STEPS,
    KAPLAN_2020_TOKENS,
    KAPLAN_2020_UPDATES,
    CriticalBatch,
    KaplanSteps,
    KaplanSurface,
)
from .forms.law import Law
from .forms.lifetime import Lifetime, lifetime
from .forms.mixture import ExponentialMixture
from .forms.noise import NoiseScale, gradient_noise
from .forms.overtraining import GADRE_2024_C4, GADRE_2024_REDPAJAMA, GADRE_2024_REFINEDWEB, OverTraining
from .forms.power import LLAMA3_TOKENS, PowerLaw, SaturatingPowerLaw
from .forms.repetition import MUENNIGHOFF_2023, DataConstrained, DataConstrainedSurface
from .forms.surface import Allocation, LossSurface
from .library import LIBRARY, Entry, Uncertainty

__all__ = [
    "BESIROGLU_2024",
    "BUSBRIDGE_2025_SUPERVISED",
    "CLARK_2022_HASH",
    "CLARK_2022_RLR",
    "CLARK_2022_SBASE",
    "DEEPSEEK_BATCH",
    "DEEPSEEK_FLOPS_PER_TOKEN",
    "DEEPSEEK_LEARNING_RATE",
    "DEEPSEEK_TOKENS",
    "GADRE_2024_C4",
    "GADRE_2024_REDPAJAMA",
    "GADRE_2024_REFINEDWEB",
    "HOFFMANN_2022",
    "KAPLAN_2020",
    "KAPLAN_2020_BATCH",
    "KAPLAN_2020_CRITICAL_BATCH",
    "KAPLAN_2020_ENOUGH_DATA",
    "KAPLAN_2020_LOSS_OF_C",
    "KAPLAN_2020_LOSS_OF_D",
    "KAPLAN_2020_LOSS_OF_N",
    "KAPLAN_2020_SIZE",
    "KAPLAN_2020_STEPS",
    "KAPLAN_2020_TOKENS",
    "KAPLAN_2020_UPDATES",
    "LIBRARY",
    "LLAMA3_TOKENS",
    "MARIN_BETA2",
    "MARIN_LEARNING_RATE",
    "MINICPM_BATCH",
    "MUENNIGHOFF_2023",
    "NANOCHAT_BATCH",
    "NANOCHAT_LEARNING_RATE",
    "NANOCHAT_WEIGHT_DECAY",
    "OLMO_CORE_BATCH",
    "OLMO_CORE_LEARNING_RATE",
    "OLMO_LADDER_MMLU",
    "PEARCE_2024",
    "POWER_LINES_BATCH",
    "STEP_LAW_BATCH",
    "STEP_LAW_LEARNING_RATE",
    "Allocation",
    "Candidate",
    "Chinchilla",
    "Comparison",
    "CriticalBatch",
    "Curve",
    "DataConstrained",
    "DataConstrainedSurface",
    "Distillation",
    "EmbeddingBridge",
    "Entry",
    "ExponentialError",
    "ExponentialMixture",
    "Farseer",
    "Fit",
    "IsoFLOPAnalysis",
    "KaplanSteps",
    "KaplanSurface",
    "Law",
    "Lifetime",
    "LogLinear",
    "LogLinearFit",
    "LogSigmoid",
    "LossSurface",
    "MixtureFit",
    "NoiseScale",
    "OptimalMixture",
    "OptimalPrediction",
    "OverTraining",
    "PowerLaw",
    "PowerProduct",
    "PoweredSum",
    "PowersFit",
    "Prediction",
    "Profile",
    "Proportion",
    "RoutingLaw",
    "Runs",
    "SaturatingPowerLaw",
    "ScoreFit",
    "ScoreLaw",
    "SecondMomentDecay",
    "Sigmoid",
    "TwoStep",
    "TwoStepFit",
    "Uncertainty",
    "Validation",
    "analyse",
    "candidates_at",
    "compare",
    "fit",
    "fit_log_linear",
    "fit_mixture",
    "fit_powers",
    "fit_score",
    "fit_two_step",
    "gradient_noise",
    "lifetime",
    "optimal_mixture",
    "profile",
    "rank_candidates",
    "read_runs",
    "regress_on_proxies",
    "repetition_caps",
    "simulated_mixture",
    "validate",
]
