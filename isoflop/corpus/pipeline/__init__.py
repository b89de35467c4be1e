"""Stages one after another over a corpus of any size, on all processors or many machines, resumable anywhere."""

from isoflop.corpus.pipeline.clean import clean
from isoflop.corpus.pipeline.config import CleanConfig, Source, Step
from isoflop.corpus.pipeline.layout import Job

__all__ = ["CleanConfig", "Job", "Source", "Step", "clean"]
