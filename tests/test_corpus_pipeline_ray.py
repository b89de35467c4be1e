"""Cleaning on a local Ray of several workers ends with the bytes of one process."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from pipeline_stages import Fails, configured, write_corpus
from test_corpus_pipeline import results

from isoflop.corpus.pipeline import Step, clean
from isoflop.corpus.pipeline.cluster import RayPool
from isoflop.corpus.pipeline.local import LocalPool
from isoflop.corpus.pipeline.work import StageError

pytest.importorskip("ray")


@pytest.mark.slow
def test_ray_gives_the_same_bytes_and_the_same_errors(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "raw")
    config = configured(corpus)
    clean(config, tmp_path / "here", pool=lambda job: LocalPool(job, 1))
    clean(config, tmp_path / "ray", pool=lambda job: RayPool(job, workers=3))
    assert results(tmp_path / "ray") == results(tmp_path / "here")
    failing = dataclasses.replace(config, steps=(Step(Fails(word="secret")),))
    with pytest.raises(StageError, match=r"stage 01-fails failed at the document \w+.jsonl:\d+: KeyError: 'secret'"):
        clean(failing, tmp_path / "failing", pool=lambda job: RayPool(job, workers=2))
