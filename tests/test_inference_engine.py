"""The engine writes what the model alone would write, whatever shares its rows, and knows when to stop."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from isoflop.inference.decoder import Decoder
from isoflop.inference.engine import Engine
from isoflop.inference.requests import Request
from isoflop.inference.sampling import Sampling
from isoflop.model.llama import Llama
from isoflop.planning.rope import RopeScaling
from isoflop.planning.shape import Shape
from isoflop.tokens import Tokenizer, train_tokenizer

GROUPED = Shape(2, 64, 4, 2, 96, 300, context=128, tied=False)
SHAPES = {
    "grouped heads": GROUPED,
    "tied, one key head": Shape(3, 32, 4, 1, 64, 300, context=96),
    "stretched positions": replace(GROUPED, rope_theta=500.0, rope_scaling=RopeScaling(4.0, 1.0, 4.0, 32)),
    "norms and caps": replace(GROUPED, qk_norm=True, attention_cap=20.0, logit_cap=10.0),
}
GREEDY = Sampling(temperature=0)
KINDS = (
    Sampling(),
    Sampling(0.7),
    Sampling(top_k=5),
    Sampling(top_p=0.8),
    Sampling(min_p=0.1),
    Sampling(repetition=1.4),
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(Llama(GROUPED).initialise(3))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["the law of the land is a law – naïve 日本語 🙂"] * 40, 300)


def requests(count: int, seed: int = 1, **settings: object) -> list[Request]:
    """Prompts of very different lengths, with one to three samples of up to thirty tokens."""
    draw = random.Random(seed)
    return [
        Request(
            tuple(draw.randrange(300) for _ in range(draw.randrange(1, 60))),
            samples=draw.choice([1, 2, 3]),
            max_tokens=draw.randrange(1, 30),
            seed=number,
            **{"sampling": draw.choice(KINDS)} | settings,  # type: ignore[arg-type]
        )
        for number in range(count)
    ]


@torch.no_grad()
def greedy(model: Llama, prompt: tuple[int, ...], count: int) -> tuple[list[int], list[float]]:
    """What the whole model says token by token, without a cache, and its log-probabilities."""
    ids, logprobs = list(prompt), []
    for _ in range(count):
        scores = model(torch.tensor([ids]))[0, -1].double().log_softmax(-1)
        ids.append(int(scores.argmax()))
        logprobs.append(float(scores.max()))
    return ids[len(prompt) :], logprobs


@pytest.mark.parametrize("name", SHAPES)
def test_greedy_text_is_the_models_own_with_its_log_probabilities(name: str) -> None:
    model = Llama(SHAPES[name]).initialise(3)
    asked = requests(7, sampling=GREEDY)
    for request, answers in zip(asked, Engine(Decoder(model), rows=4).generate(asked), strict=True):
        ids, logprobs = greedy(model, request.prompt, request.max_tokens)
        assert len(answers) == request.samples
        for answer in answers:
            assert answer.ids == ids
            assert answer.logprobs == pytest.approx(logprobs, abs=1e-4)
            assert answer.finish == "length"


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_a_request_draws_the_same_beside_any_others(decoder: Decoder, rows: int) -> None:
    asked = requests(12)
    together = Engine(decoder, rows=rows).generate(asked)
    for request, answers in zip(asked, together, strict=True):
        assert [a.ids for a in Engine(decoder, rows=2).generate([request])[0]] == [a.ids for a in answers]


def test_samples_differ_and_so_do_seeds(decoder: Decoder) -> None:
    request = Request((1, 2, 3), samples=4, max_tokens=12)
    first, other = (Engine(decoder).generate([replace(request, seed=seed)])[0] for seed in (0, 1))
    assert len({tuple(answer.ids) for answer in (*first, *other)}) == 8


def test_a_stop_id_ends_a_sample_and_its_row_goes_to_the_next(decoder: Decoder) -> None:
    asked = [replace(request, max_tokens=25) for request in requests(6, seed=5, sampling=GREEDY)]
    free = Engine(decoder, rows=2).generate(asked)
    stops = [answers[0].ids[len(answers[0].ids) // 2] for answers in free]
    stopped = Engine(decoder, rows=2).generate(
        [replace(request, stop_ids=(stop,)) for request, stop in zip(asked, stops, strict=True)]
    )
    for before, after, stop in zip(free, stopped, stops, strict=True):
        ids = before[0].ids
        assert after[0].ids == ids[: ids.index(stop) + 1]
        assert after[0].finish == "stop"


def test_a_text_ends_where_the_context_does(decoder: Decoder) -> None:
    (answer,) = Engine(decoder).generate([Request((5,) * 120, max_tokens=50)])[0]
    assert len(answer.ids) == 8
    assert answer.finish == "length"


def test_streamed_text_is_the_whole_text_and_never_half_a_character(tokenizer: Tokenizer) -> None:
    model = Llama(replace(GROUPED, vocab=tokenizer.vocab_size)).initialise(1)
    engine = Engine(Decoder(model), tokenizer)
    request = Request((tokenizer.bos,), samples=3, max_tokens=60, sampling=Sampling(1.5))
    pieces: dict[int, list[str]] = {0: [], 1: [], 2: []}
    ids: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for event in engine.stream([request]):
        pieces[event.sample].append(event.text)
        ids[event.sample].append(event.id)
    for sample in pieces:
        assert "".join(pieces[sample]) == tokenizer.decode(ids[sample])


def test_a_stop_text_is_cut_off_wherever_tokens_begin(tokenizer: Tokenizer) -> None:
    model = Llama(replace(GROUPED, vocab=tokenizer.vocab_size)).initialise(1)
    engine = Engine(Decoder(model), tokenizer)
    request = Request((tokenizer.bos,), max_tokens=60, sampling=Sampling(1.5), seed=4)
    (whole,) = engine.generate([request])[0]
    middle = len(whole.text) // 2
    stop = whole.text[middle : middle + 3]
    (cut,) = engine.generate([replace(request, stop_texts=(stop,))])[0]
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish == "stop"


def test_eight_bit_weights_stay_close() -> None:
    model = Llama(GROUPED).initialise(3)
    tokens = torch.randint(300, (2, 40), generator=torch.Generator().manual_seed(0))
    whole, rounded = (
        decoder.logits(decoder.read(tokens, decoder.cache(2, 40)))
        for decoder in (Decoder(model), Decoder(model, int8=True))
    )
    assert float((whole - rounded).std() / whole.std()) < 0.05
    assert not torch.equal(whole, rounded)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Request(()), "at least one token"),
        (lambda: Request((1,), samples=0), "at least one sample"),
        (lambda: Request((1,), max_tokens=0), "of one token"),
        (lambda: Request((1,), stop_texts=("",)), "empty stop text"),
        (lambda: Sampling(temperature=-1), "temperature"),
        (lambda: Sampling(top_p=0), "top_p"),
        (lambda: Sampling(repetition=0), "repetition"),
    ],
)
def test_what_cannot_be_answered_is_refused(make: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request((1,) * 128), "128 tokens and the context ends at 128"),
        (Request((300,)), "has the id 300"),
        (Request((1,), stop_texts=("a",)), "with a tokenizer"),
    ],
)
def test_what_this_model_cannot_answer_is_refused_before_the_first_token(
    decoder: Decoder, request_: Request, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        next(Engine(decoder).stream([Request((1,)), request_]))
