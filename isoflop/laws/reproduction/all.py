"""Every paper whose published numbers are recomputed here: its checks, the files they read, and where those are public.

    >>> for paper in PAPERS:
    ...     print(*paper.checks(Path("data")), sep="\\n")

The data folder has the papers' folders beneath ``scaling`` and ``mixing``. No data come with isoflop: several of the
sources state no licence. Most files are the repositories' own; two are tables made from what is there, and ``how`` says
of what.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import chinchilla, gadre, llama3, muennighoff, olmo, regmix, routing, steplaw
from .check import Check

SCALING, MIXING = "scaling", "mixing"
OLMO_TABLES = ("step1_main", "step2_main", "step1_c4_main", "step2_c4_main", "chained_main", "chained_flops_main")
REGMIX_TABLES = tuple(
    f"{split}_{kind}_{size}"
    for split, size in (("train", "1m"), ("test", "1m"), ("test", "60m"), ("test", "1B"))
    for kind in ("mixture", "pile_loss")
)


@dataclass(frozen=True)
class Paper:
    """One paper's data and checks.

    ``files`` lie in the data folder's ``room``; ``repository`` is where they come from, on GitHub, and ``how`` what
    they hold. ``recompute`` is the paper's module's function of the room's folder.
    """

    name: str
    source: str
    room: str
    files: tuple[str, ...]
    repository: str
    how: str
    recompute: Callable[[Path], list[Check]]

    def missing(self, data: Path) -> tuple[str, ...]:
        """Name the files, relative to the data folder, that are not there."""
        wanted = (f"{self.room}/{name}" for name in self.files)
        return tuple(name for name in wanted if not (data / name).exists())

    def checks(self, data: Path) -> list[Check]:
        """Recompute the paper's numbers. Raises FileNotFoundError when :meth:`missing` is not empty."""
        return self.recompute(data / self.room)


PAPERS = (
    Paper(
        "chinchilla",
        "Besiroglu et al. 2024 on Hoffmann et al. 2022",
        SCALING,
        ("epoch/svg_extracted_data.csv",),
        "epoch-research/analyzing-chinchilla",
        "data/svg_extracted_data.csv as it is",
        chinchilla.checks,
    ),
    Paper(
        "llama3",
        "Grattafiori et al. 2024",
        SCALING,
        ("llama3/isoflops_points.csv",),
        "eric-czech/llama3_isoflop_extraction",
        "isoflops_points.csv as it is",
        llama3.checks,
    ),
    Paper(
        "gadre",
        "Gadre et al. 2024",
        SCALING,
        ("gadre/testbed.csv", "gadre/reference_fits.json"),
        "mlfoundations/scaling",
        "exp_data as one row a model (dataset_name, N, D, tok_mult, loss_c4_val, err_TASK), and the paper's fits",
        gadre.checks,
    ),
    Paper(
        "muennighoff",
        "Muennighoff et al. 2023",
        SCALING,
        ("muennighoff/fit_set_cells25_26.csv",),
        "huggingface/datablations",
        "the runs of cells 25 and 26 of utils/parametric_fit.ipynb (name, params, tokens, unique_tokens, loss)",
        muennighoff.checks,
    ),
    Paper(
        "olmo",
        "Bhagia et al. 2024",
        SCALING,
        ("olmo-ladder/final.json", "olmo-ladder/ladder-runs", *(f"olmo-ladder/{table}.csv" for table in OLMO_TABLES)),
        "allenai/OLMo-ladder",
        "src/scripts/paper: configs/final.json, the tables of figures/, and data/ladder-runs",
        olmo.checks,
    ),
    Paper(
        "steplaw",
        "Li et al. 2025 (Step Law)",
        SCALING,
        ("steplaw/dense_lr_bs_loss.csv", "steplaw/1004_fitted_lr_bs_scaling_model_parameters.csv"),
        "step-law/steplaw",
        "both tables as they are",
        steplaw.checks,
    ),
    Paper(
        "routing",
        "Clark et al. 2022",
        SCALING,
        ("routing-moe/curves.csv.gz",),
        "google-deepmind/scaling_laws_for_routing",
        "data/curves.csv.gz as it is",
        routing.checks,
    ),
    Paper(
        "regmix",
        "Liu et al. 2024 (RegMix)",
        MIXING,
        tuple(f"regmix/{part}.csv" for part in REGMIX_TABLES),
        "sail-sg/regmix",
        "the train_ and test_ tables of data/ as they are",
        regmix.checks,
    ),
)
