"""The command line: one small file per command; everything heavy is imported inside the command.

Exit status: 0 done, 1 an error that is said in one sentence, 2 a command line that could not be understood, 75 stopped
from outside after saving, so that the same command goes on.
"""

from __future__ import annotations

import importlib
import os
import sys

COMMANDS = {
    "quickstart": "the whole loop: corpus, sweep, law, plan, trained model, score, report",
    "clean": "raw text through cleaning stages, with a report of what each removed",
    "prepare": "a corpus into a tokenizer and token shards",
    "tokenizers": "train a tokenizer, or put several side by side on a corpus",
    "train": "one run from a config file, or go on with it",
    "import": "a Hugging Face or GGUF Llama as weights that a run can begin with",
    "export": "a run's weights as a Hugging Face folder or a GGUF file",
    "recipes": "the configs of released Llamas' pre-training, and their small twins",
    "generate": "texts that a model writes after prompts",
    "chat": "a conversation with a model, in the terminal",
    "masks": "which tokens of conversations or preferences are trained on",
    "sft": "fine-tune a model on conversations",
    "reward": "train a reward model on preferences",
    "sample": "many answers to every prompt, judged, and the best of them kept",
    "dpo": "train a model on preferences, without a reward model",
    "teach": "train a model on its own answers, by what a larger one says of every token",
    "align": "the rounds of post-training: reward model, rejection sampling, fine-tuning, DPO",
    "problems": "problems whose answers can be checked, and the check",
    "evaluate": "models side by side on tasks and texts, with intervals",
    "needle": "whether a run finds a fact far back in its context",
    "distil": "what a run's teacher says of its tokens, asked beforehand and kept beside them",
    "ledger": "how often a mixture reads its sources, and how far it reaches",
    "sweep": "an IsoFLOP grid of small runs",
    "mix": "which mixture of sources to train on, from many small proxies",
    "fit": "the laws that runs obey, from a CSV file, run directories or a sweep",
    "laws": "the published laws, what they mean and where they are from",
    "reproduce": "published numbers recomputed from published data",
    "plan": "what to train with a budget, what it costs, whether it fits",
    "runs": "the runs under a directory side by side, or what tells two apart",
    "report": "the HTML report of an experiment",
}

RESUMING = (
    "quickstart",
    "clean",
    "prepare",
    "train",
    "distil",
    "sweep",
    "mix",
    "sft",
    "reward",
    "sample",
    "dpo",
    "teach",
    "align",
)


def usage() -> str:
    """The list of commands."""
    lines = [f"  {name:<11} {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "isoflop: from a compute budget and a corpus to a Llama whose loss was predicted, and to one that answers",
            "",
            "usage: isoflop COMMAND [OPTIONS]      isoflop COMMAND --help tells all about one",
            "",
            *lines,
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    """Run one command and leave with its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        sys.exit(dispatch(arguments))
    except BrokenPipeError:  # whoever read us has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def dispatch(arguments: list[str]) -> int:
    """Do what the command line asks; return the exit status."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(), flush=True)
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        from isoflop import __version__

        print(__version__)
        return 0
    return run(arguments[0], arguments[1:])


def run(name: str, arguments: list[str]) -> int:
    """Run a command; its errors become one sentence on standard error."""
    if name not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        print(f"isoflop: there is no command {name!r}{hint}", file=sys.stderr)
        print(usage(), file=sys.stderr)
        return 2
    from isoflop.interrupt import INTERRUPTED, Interrupted

    command = importlib.import_module(f"isoflop.cli.{name}")
    try:
        command.main(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except ModuleNotFoundError as error:
        extra = {"torch": "train", "matplotlib": "report", "gguf": "gguf", "lm_eval": "eval"}.get(error.name or "")
        if extra is None:
            raise
        print(f"isoflop: this needs {error.name}: pip install 'isoflop[{extra}]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        kept = "; the same command goes on" if name in RESUMING else ""
        print(f"isoflop: stopped{kept}", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, FloatingPointError, OSError, RuntimeError) as error:
        print(f"isoflop: {error}", file=sys.stderr)
        return 1
    except Interrupted as error:
        print(f"isoflop: {error}", file=sys.stderr)
        return INTERRUPTED
    return 0
