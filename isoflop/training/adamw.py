"""torch's AdamW without the compiler, which torch's own loads even where nothing is compiled.

An optimiser of torch loads ``torch._dynamo`` when it is made and when it steps, to say that its methods are not to be
traced. That takes longer than loading torch itself (6.5 s of a busy core here, after 4.9 s), in every worker and rank
that starts. Nothing here traces an optimiser, so its methods may count as marked already; where something is compiled,
the compiler is loaded then. The arithmetic is torch's. Should another torch mark its methods in another way, all that
is lost is those seconds.
"""

from __future__ import annotations

import inspect

import torch

MARK = "__dynamo_disable"
METHODS = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


class AdamW(torch.optim.AdamW):
    """``torch.optim.AdamW``; ``step`` is its innermost function, under no_grad as torch calls it."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def mark() -> None:
    """Let torch's methods count as marked."""
    for name in METHODS:
        method = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if method is not None and not hasattr(method, MARK):
            setattr(method, MARK, method)


mark()
