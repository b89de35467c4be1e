"""What a preference costs a policy: DPO and its relatives, of summed log-likelihoods.

With h = (π − ref)(better) − (π − ref)(worse), π and ref being what policy and reference say of a response in nats:

    DPO    −log σ(β·h)                                        Rafailov et al. 2023, arXiv 2305.18290, equation 7
    cDPO   −(1 − ε)·log σ(β·h) − ε·log σ(−β·h)                the same with a share ε of preferences turned round
    IPO    (h − 1/(2β))²                                      Azar et al. 2023, arXiv 2310.12036, equation 17
    SimPO  −log σ(β·h − γ), per token, without a reference    Meng et al. 2024, arXiv 2405.14734, equation 6

and Llama 3's is the first plus 0.2·NLL of the better response, per token (arXiv 2407.21783, section 4.1.4). They are
terms, so that their mixtures are there too. All of it is fp32, however the likelihoods came about. Left out: losses of
single labelled responses (KTO).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch.nn.functional as F
from torch import Tensor

from isoflop.posttraining.settings import Preference


def preference_loss(terms: Preference, difference: Tensor) -> Tensor:
    """The loss of each h, in fp32."""
    h = difference.float()
    if terms.form == "squared":
        return (h - 1 / (2 * terms.beta)).square()
    z = terms.beta * h - terms.margin
    right = F.logsigmoid(z)
    return -right if not terms.smoothing else -(1 - terms.smoothing) * right - terms.smoothing * F.logsigmoid(-z)


def fallen(shifts: Sequence[float], window: int, most: float) -> int | None:
    """The first place at which the mean of the last ``window`` shifts is more than ``most`` below 0; None if nowhere.

    Shifts are the better responses' log-likelihood against the reference, in nats a token: DPO is content when both
    fall as long as the worse falls faster, and then a policy may end up saying neither (Pal et al. 2024, arXiv
    2402.13228).
    """
    sums = [0.0, *accumulate(shifts)]
    means = [(after - before) / window for before, after in zip(sums, sums[window:], strict=False)]
    return next((place + window - 1 for place, mean in enumerate(means) if mean < -most), None)
