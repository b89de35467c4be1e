"""Pipeline parallelism: micro-batches pass from stage to stage, one forward and one backward at a time (1F1B).

A stage begins with as many forward passes as there are stages after it, then alternates, so that it never keeps the
activations of more (Narayanan et al. 2021, arXiv 2104.04473, section 2.2). Messages that cross are sent and received
together, without which two stages would wait for each other. All stages read the same tokens, so only activations and
their gradients travel, whose shapes are known. One stage alone is the ordinary loop. A pipeline of p stages stands
still for (p − 1) / micro-batches of its time. Left out: interleaved stages, and hiding messages behind work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from isoflop.model.llama import Llama

Piece = Callable[[Tensor, Tensor | None], Tensor]
"""A stage's pass over a micro-batch's tokens and what arrived from the stage before: states, or the loss at the end."""


def one_forward_one_backward(model: Llama, batches: Iterable[Tensor], piece: Piece) -> None:
    """Add the gradients of all micro-batches (rows, time + 1) to the parameters."""
    stage = Stage(model)
    if stage.alone:
        for tokens in batches:
            piece(tokens, None).backward()  # type: ignore[no-untyped-call]
        return
    coming, waiting = deque(batches), deque[tuple[Tensor | None, Tensor]]()
    arriving, _ = stage.exchange(expected=coming)
    while coming or waiting:
        warming, made = len(waiting) < stage.after, None
        if coming:
            made = piece(coming.popleft(), arriving)
            waiting.append((arriving, made))
            if warming:  # as many are under way when the first comes back as there are stages after this one
                arriving, _ = stage.exchange(onward=made, expected=coming)
                continue
        arrived, oldest = waiting.popleft()
        _, gradient = stage.exchange(onward=made, returning=oldest)
        oldest.backward(gradient)  # type: ignore[no-untyped-call]
        arriving, _ = stage.exchange(back=None if arrived is None else arrived.grad, expected=coming)


def pass_through(model: Llama, tokens: Tensor, documents: Tensor | None = None) -> Tensor:
    """States of token ids (batch, time): the model's own on the last stage, what goes to the next on the others."""
    stage = Stage(model)
    if stage.alone:
        return model.hidden(tokens, documents)
    arriving, _ = stage.exchange(expected=[F.pad(tokens, (0, 1))])
    states = model.hidden(tokens, documents, arriving)
    stage.exchange(onward=states)
    return states


class Stage:
    """This process's place in the pipeline, and its messages with the stages before and after it."""

    def __init__(self, model: Llama) -> None:
        self.model, axis = model, model.spread.stages
        self.alone, self.after = axis.count == 1, axis.count - 1 - axis.rank
        self.neighbours = tuple(
            dist.get_global_rank(axis.group, rank) if 0 <= rank < axis.count and not self.alone else None
            for rank in (axis.rank - 1, axis.rank + 1)
        )

    def exchange(
        self,
        *,
        onward: Tensor | None = None,
        returning: Tensor | None = None,
        back: Tensor | None = None,
        expected: Sequence[Tensor] = (),
    ) -> tuple[Tensor | None, Tensor | None]:
        """Send and receive at once, where there is a neighbour on that side.

        ``onward`` and ``back`` go to the stages after and before. Received are the states of the first of the
        ``expected`` micro-batches from the stage before, and the gradient of ``returning`` from the one after.
        """
        before, after = self.neighbours
        states = self.room(expected[0]) if expected and before is not None else None
        gradient = torch.empty_like(returning) if returning is not None and after is not None else None
        messages = (
            (dist.isend, onward, after),
            (dist.isend, back, before),
            (dist.irecv, states, before),
            (dist.irecv, gradient, after),
        )
        operations = [
            dist.P2POp(how, message.detach().contiguous(), peer)
            for how, message, peer in messages
            if message is not None and peer is not None
        ]
        for request in dist.batch_isend_irecv(operations) if operations else ():
            request.wait()
        return None if states is None else states.requires_grad_(), gradient

    def room(self, tokens: Tensor) -> Tensor:
        """Room for the states of this rank's part of a micro-batch (rows, time + 1)."""
        spread = self.model.spread
        time = (tokens.shape[1] - 1) // (spread.tensor.count * spread.context.count)
        shape = (tokens.shape[0], time, self.model.shape.width)
        return torch.empty(shape, dtype=self.model.compute, device=tokens.device)
