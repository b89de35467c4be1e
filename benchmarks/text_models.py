"""How fast the small text models are: language, fastText, classifier and n-gram model, training and scoring.

    python benchmarks/text_models.py path/to/a/corpus [--documents 1000] [--rounds 3] [--fasttext lid.176.bin]

Every task runs once per round, the tasks in turn, in one process on one thread; printed are megabytes of text per
second, the median over rounds and the range. Language engines see 2,000 characters of a document, so their speed is
given per document too.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from isoflop.corpus import documents
from isoflop.corpus.models import Language, LanguageModel, NgramConfig, Training, train_classifier, train_language_model
from isoflop.corpus.models.features import Features, rows
from isoflop.corpus.models.words import words


def tasks(path: str, count: int, fasttext: str, folder: Path) -> tuple[int, int, dict[str, Callable[[], object]]]:
    """Bytes and documents of the sample, and what is timed over it."""
    found = list(itertools.islice(documents(path), count))
    texts = [document.text for document in found]
    training = Training(documents=count)
    classifier, _ = train_classifier(texts[::2], texts[1::2], training)
    model = train_language_model(lambda: texts, folder / "model", NgramConfig())
    work: dict[str, Callable[[], object]] = {
        "words": lambda: [words(text) for text in texts],
        "rows of features": lambda: [rows(text, Features()) for text in texts],
        "language (py3langid)": lambda: Language().judge(found, 0, folder),
        "classifier, training": lambda: train_classifier(texts[::2], texts[1::2], training),
        "classifier, scoring": lambda: classifier.score(texts),
        "n-grams, training": lambda: train_language_model(lambda: texts, folder / "again", NgramConfig()),
        "n-grams, scoring": lambda: LanguageModel.surprise(model, texts),
    }
    if fasttext:
        stage = Language(engine="fasttext", model=fasttext)
        work["language (fastText)"] = lambda: stage.judge(found, 0, folder)
    return sum(len(text.encode()) for text in texts), len(texts), work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fasttext", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        size, count, work = tasks(given.corpus, given.documents, given.fasttext, Path(scratch))
        seconds: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(given.rounds):
            for name, task in work.items():
                began = time.perf_counter()
                task()
                seconds[name].append(time.perf_counter() - began)
    print(f"{size / 1e6:.1f} MB in {count} documents")
    for name, times in seconds.items():
        median = statistics.median(times)
        spread = f"{size / 1e6 / max(times):.1f} to {size / 1e6 / min(times):.1f}"
        print(f"{name:22} {size / 1e6 / median:8.1f} MB/s ({spread}) {1e3 * median / count:8.2f} ms a document")


if __name__ == "__main__":
    main()
