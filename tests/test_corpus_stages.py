"""The registry of stages: every stage there is goes by its name, and every preset is a config."""

from __future__ import annotations

import importlib
import pkgutil
import tomllib
from dataclasses import fields

import pytest
from dedup import run, texts_of

import isoflop.corpus
from isoflop.corpus.pipeline.presets import PRESETS, preset
from isoflop.corpus.pipeline.tables import SCOPE_KEYS, from_table
from isoflop.corpus.stage import Stage
from isoflop.corpus.stages import STAGES, stage_class


@pytest.mark.parametrize("name", STAGES)
def test_a_registered_stage_goes_by_its_name(name: str) -> None:
    found = stage_class(name)
    assert found.name == name
    assert not {field.name for field in fields(found)} & {"name", *SCOPE_KEYS}


def test_every_stage_is_registered() -> None:
    def below(kind: type[Stage]) -> set[type[Stage]]:
        return {kind} | {each for child in kind.__subclasses__() for each in below(child)}

    for module in pkgutil.walk_packages(isoflop.corpus.__path__, "isoflop.corpus."):
        importlib.import_module(module.name)
    named = {kind for kind in below(Stage) if hasattr(kind, "name") and kind.__module__.startswith("isoflop.")}
    assert named == {stage_class(name) for name in STAGES}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_config_that_is_read_as_it_is_written(name: str) -> None:
    config = from_table(preset(name) | {"corpus": "raw"})
    assert from_table(tomllib.loads(config.dumps())) == config


@pytest.mark.parametrize(
    ("name", "stage", "left"),
    [
        ("c4", "duplicate_lines", ["The same line.\nAlone.", "Other."]),
        ("llama1", "duplicate_paragraphs", ["Alone.", "Other."]),
    ],
)
def test_presets_compare_lines_as_the_code_of_their_papers_does(
    tmp_path, name: str, stage: str, left: list[str]
) -> None:
    (step,) = [step for step in from_table(preset(name) | {"corpus": "raw"}).steps if step.stage.name == stage]
    texts = ["The same line.\nAlone.", "THE same  line.\nOther."]
    assert [(text or "").strip() for text in texts_of(run(step.stage, texts, tmp_path / "s", [1]))] == left
