"""Small models over text: which language, how good, how predictable, about what. Each is a stage, and usable alone."""

from isoflop.corpus.models.classifier import Classifier, Training, train_classifier
from isoflop.corpus.models.fasttext import FastText
from isoflop.corpus.models.features import Features
from isoflop.corpus.models.language import Language
from isoflop.corpus.models.ngram import LanguageModel, NgramConfig, train_language_model
from isoflop.corpus.models.perplexity import Perplexity
from isoflop.corpus.models.quality import QualityClassifier
from isoflop.corpus.models.topics import TopicSampling

__all__ = [
    "Classifier",
    "FastText",
    "Features",
    "Language",
    "LanguageModel",
    "NgramConfig",
    "Perplexity",
    "QualityClassifier",
    "TopicSampling",
    "Training",
    "train_classifier",
    "train_language_model",
]
