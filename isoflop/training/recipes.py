"""The recipes that ship: configs of released Llamas' pre-training, and of a twin of each that runs on a small machine.

They are the files of ``isoflop/recipes``, with comments that say what is published, where, and what is assumed. Read as
any run's config; where its tokens lie is the user's to say. Instant, no torch.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import replace
from pathlib import Path

from isoflop import config as configuration
from isoflop.training.config import TrainConfig

FOLDER = Path(__file__).resolve().parents[1] / "recipes"


def names() -> list[str]:
    """The recipes' names, each model's twin after it."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def text(name: str) -> str:
    """The file of a recipe; a ValueError that suggests the nearest for a name that is none."""
    path = FOLDER / f"{name}.toml"
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.3)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names())}"
        raise ValueError(f"there is no recipe {name!r}; {hint}")
    return path.read_text(encoding="utf-8")


def recipe(name: str, data: Path | None = None) -> TrainConfig:
    """The config of a recipe, on the tokens in ``data`` if that is given (:func:`on`)."""
    config = configuration.from_dict(TrainConfig, tomllib.loads(text(name)), name)
    return config if data is None else on(config, data)


def on(config: TrainConfig, data: Path) -> TrainConfig:
    """The config on other tokens: those of the folder, or for a mixture of the folder's folders named as its sources.

    Paths become absolute, as a run's directory may be anywhere.
    """
    folder = data.resolve()
    if config.mixture is None:
        return replace(config, data=str(folder))
    sources = tuple(replace(source, data=str(folder / source.name)) for source in config.mixture.sources)
    if missing := [source.data for source in sources if not Path(source.data).is_dir()]:
        raise ValueError(
            f"a mixture needs a folder of tokens for each of its sources, and there is no {missing[0]}; prepare it "
            f"there (isoflop prepare), or write a config of your own from the recipe (isoflop recipes)"
        )
    return replace(config, mixture=replace(config.mixture, sources=sources))
