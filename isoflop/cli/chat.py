"""``isoflop chat``: a conversation with a model, in the terminal."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import category

import tyro

if TYPE_CHECKING:
    from isoflop.posttraining.dialogue import Dialogue

DESCRIPTION = """Talks with a model in Llama 3's chat format: one that post-training made, or any other with a tokenizer
that has the format's special tokens. Answers come as they are written; Ctrl-C stops one and keeps what it said, Ctrl-D
leaves. With --message, or where the input is a pipe, it answers once.

examples:
  isoflop chat aligned/
  isoflop chat aligned/ --message "What is 7 times 8?" --temperature 0 --json
  cat question.txt | isoflop chat aligned/ --system "You answer in one sentence."

in a conversation:
  /system TEXT        what the model is told beforehand, from now on; without a text, what that is
  /undo               take back the last question and its answer
  /again              another answer to the last question
  /reset              begin anew
  /temperature X      how freely words are drawn; 0 is greedy
  /save FILE.jsonl    add the conversation to a file that isoflop sft reads
  /help               this list

a line that ends in a backslash goes on in the next.
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop chat``.

    Attributes:
        model: A run, a stage of post-training, an imported model, a Hugging Face folder or a .gguf file.
        message: Answer this and leave.
        system: What the model is told beforehand.
        max_tokens: Tokens of an answer at most.
        temperature: Divides the logits; 0 is greedy.
        top_k: Only among so many likeliest tokens; 0 for all.
        top_p: Only among the likeliest tokens that together have this probability.
        min_p: Only among tokens at least so likely, as a share of the likeliest.
        repetition: Makes tokens already in the text less likely; 1 for no difference.
        seed: Chooses other answers.
        averaged: Use a run's averaged weights instead of the last.
        int8: Round weights to eight bits.
        json: With one answer: print it as JSON, with what it took.
    """

    model: tyro.conf.Positional[Path]
    message: str | None = None
    system: str = ""
    max_tokens: int = 512
    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 0.95
    min_p: float = 0.0
    repetition: float = 1.0
    seed: int = 0
    averaged: bool = False
    int8: bool = False
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop chat", description=DESCRIPTION)
    once = a.message if a.message is not None or sys.stdin.isatty() else sys.stdin.read()
    if a.json and once is None:
        raise ValueError("--json is for one answer: give --message, or a question through a pipe")
    dialogue = opened(a)
    if once is None:
        converse(dialogue)
    elif a.json:
        print(json.dumps(answered(dialogue, once), ensure_ascii=False))
    else:
        stream(dialogue, once)


def opened(a: Arguments) -> Dialogue:
    """The model ready to answer; says so where it never learnt to."""
    from isoflop.inference.decoder import Decoder
    from isoflop.inference.engine import Engine
    from isoflop.inference.load import load_model
    from isoflop.inference.sampling import Sampling
    from isoflop.posttraining.chat import Chat
    from isoflop.posttraining.dialogue import Dialogue
    from isoflop.tokens.chat_template import answers

    sampling = Sampling(a.temperature, a.top_k, a.top_p, a.min_p, a.repetition)
    if a.max_tokens < 1:
        raise ValueError(f"--max-tokens is {a.max_tokens}: an answer needs at least one")
    model, tokenizer = load_model(a.model, averaged=a.averaged)
    chat = Chat(tokenizer)
    if not answers(a.model):
        print(
            f"isoflop: {a.model} was not trained to answer in this format (no chat template lies beside it); "
            "it will rather write on than answer",
            file=sys.stderr,
        )
    return Dialogue(Engine(Decoder(model, int8=a.int8), tokenizer), chat, a.system, sampling, a.max_tokens, a.seed)


def answered(dialogue: Dialogue, text: str) -> dict[str, object]:
    """One answer with what it took."""
    began = time.perf_counter()
    answer = "".join(dialogue.ask(text))
    seconds = time.perf_counter() - began
    tokens = len(dialogue.chat.content(answer))
    return {
        "message": text,
        "answer": answer,
        "finish": dialogue.finish,
        "tokens": tokens,
        "seconds": round(seconds, 3),
    }


def stream(dialogue: Dialogue, text: str) -> None:
    """Print the answer as it comes, and why it ended where that is not plain."""
    with closing(dialogue.ask(text)) as pieces:
        for piece in pieces:
            print(shown(piece), end="", flush=True)
    print(flush=True)
    if dialogue.left_out:
        note(f"the context is full: answered without the first {dialogue.left_out} messages")
    if dialogue.finish == "length":
        note(f"cut off after {dialogue.max_tokens} tokens or at the end of the context")


def shown(text: str) -> str:
    """A text as a terminal may have it: controls, which could act there, by their code; a pipe gets all as it is."""
    if not sys.stdout.isatty():
        return text
    return "".join(c if c in "\n\t" or category(c) != "Cc" else f"\\x{ord(c):02x}" for c in text)


def note(text: str) -> None:
    """Say something beside the conversation."""
    print(f"({text})", file=sys.stderr, flush=True)


def converse(dialogue: Dialogue) -> None:
    """Ask and answer until the input ends."""
    with suppress(ImportError):
        import readline  # noqa: F401 - gives ``input`` its history and editing

    note("/help lists what else there is; Ctrl-D leaves")
    while True:
        try:
            text = typed()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            continue
        try:
            if text.startswith("/"):
                obey(dialogue, text)
            elif text.strip():
                stream(dialogue, text)
        except KeyboardInterrupt:
            print()
            note("stopped; what was said is kept")
        except (ValueError, OSError) as error:
            note(str(error))


def typed() -> str:
    """A message: one line, or more where each but the last ends in a backslash."""
    text = input("> ")
    while text.endswith("\\"):
        text = text[:-1] + "\n" + input(". ")
    return text


def obey(dialogue: Dialogue, line: str) -> None:
    """Do what a line that begins with a slash says; a ValueError where it says nothing that is known."""
    name, _, rest = line[1:].partition(" ")
    rest = rest.strip()
    if name == "system" and rest:
        dialogue.system = rest
    elif name == "system":
        note(dialogue.system or "the model is told nothing beforehand")
    elif name == "undo":
        note("taken back" if dialogue.undo() else "there is nothing to take back")
    elif name == "again":
        again(dialogue)
    elif name == "reset":
        dialogue.said.clear()
        note("begun anew")
    elif name == "temperature":
        heat(dialogue, rest)
    elif name == "save":
        save(dialogue, rest)
    elif name == "help":
        note(DESCRIPTION[DESCRIPTION.index("/system") :].strip())
    else:
        raise ValueError(f"there is no /{name}; /help lists what there is")


def again(dialogue: Dialogue) -> None:
    """Another answer to the last question."""
    if (question := dialogue.undo()) is None:
        raise ValueError("nothing has been asked yet")
    stream(dialogue, question.content)


def heat(dialogue: Dialogue, text: str) -> None:
    """Set the temperature."""
    try:
        temperature = float(text)
    except ValueError:
        raise ValueError(f"/temperature needs a number, such as 0.7, not {text!r}") from None
    dialogue.sampling = replace(dialogue.sampling, temperature=temperature)


def save(dialogue: Dialogue, name: str) -> None:
    """Add the conversation to a file of them."""
    from isoflop.posttraining.formats import to_row

    if not name:
        raise ValueError("/save needs a file, such as chats.jsonl")
    path = Path(name).expanduser()
    row = json.dumps(to_row(dialogue.conversation), ensure_ascii=False)
    with path.open("a", encoding="utf-8") as file:
        file.write(row + "\n")
    note(f"added to {path}")
