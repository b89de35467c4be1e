"""How long, how much energy and how much money a number of FLOPs is, and back from what people have to FLOPs.

MFU, model FLOPs utilisation, is the share of a device's dense peak that a run's model FLOPs come to; recomputed
activations do not count. All times assume that devices scale with their number: what that costs belongs into the MFU.
Instant. Left out: estimating the MFU (a roofline's business), failures and restarts, idle power, tokens served.

A budget is written as FLOPs, PF-days, devices × time, device-hours, money, or a time on this machine; ``parse_budget``
reads it and says how it got to FLOPs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from isoflop.planning.hardware import Device, Dtype, device
from isoflop.planning.shape import Shape

PF_DAY = 8.64e19
"""FLOPs in a petaflop/s-day."""
HOUR, DAY = 3600.0, 86_400.0
USUAL_MFU = 0.4
"""Assumed where none is given: Llama 3 405B's 38 to 43% on 8,192 and 16,384 H100s (arXiv 2407.21783, table 4)."""
USUAL_PUE = 1.1
"""Power usage effectiveness, a data centre's draw over its devices': Llama 1's sum (arXiv 2302.13971, table 15)."""


def training_flops(N: float, D: float) -> float:
    """6·N·D, the FLOPs of D tokens through N parameters, forward and backward (Kaplan et al. 2020, section 2.1)."""
    return 6 * N * D


def exact_training_flops(shape: Shape, D: float) -> float:
    """The same with the parameters that multiply (``matmul``) and causal attention at the shape's context."""
    return shape.flops_per_token * D


def tokens_for(C: float, N: float) -> float:
    """D = C/6N, the tokens that C FLOPs are for N parameters."""
    return C / (6 * N)


def device_hours(flops: float, rate: float, mfu: float) -> float:
    """Hours that one device of a peak ``rate`` (FLOP/s) needs. ValueError unless the MFU is above 0 and at most 1."""
    return flops / (rate * share(mfu)) / HOUR


def seconds(flops: float, devices: int, rate: float, mfu: float) -> float:
    """Wall time on a number of devices."""
    return device_hours(flops, rate, mfu) * HOUR / devices


def energy(hours: float, watts: float, pue: float = USUAL_PUE) -> float:
    """Energy in kWh of device-hours at a power: with the design power an upper bound (Wu et al. 2022's formula)."""
    return hours * watts * pue / 1000


def mfu_of(speed: float, flops_per_token: float, rate: float) -> float:
    """MFU of a device that trains ``speed`` tokens per second."""
    return speed * flops_per_token / rate


def speed_at(mfu: float, flops_per_token: float, rate: float) -> float:
    """Tokens per second of one device at an MFU; undoes :func:`mfu_of`."""
    return share(mfu) * rate / flops_per_token


def implied_mfu(flops: float, hours: float, rate: float) -> float:
    """MFU that a run had over all of its device-hours, pauses and restarts included."""
    return flops / (hours * HOUR * rate)


def share(mfu: float) -> float:
    """An MFU above 0 and at most 1; ValueError for another."""
    if not 0 < mfu <= 1:
        raise ValueError(f"an MFU of {100 * mfu:g}% is no share of the peak: it must be above 0 and at most 100%")
    return mfu


@dataclass(frozen=True)
class Cost:
    """What a run takes. ``kwh`` and ``dollars`` are None where the device's power or rent is not known."""

    flops: float
    device: str
    devices: int
    mfu: float
    seconds: float
    device_hours: float
    kwh: float | None
    dollars: float | None

    def to_json(self) -> dict[str, Any]:
        """The cost as plain values."""
        return asdict(self)


def cost(
    flops: float,
    on: Device,
    devices: int = 1,
    *,
    mfu: float = USUAL_MFU,
    dtype: Dtype = "bf16",
    pue: float = USUAL_PUE,
    price: float | None = None,
) -> Cost:
    """Time, energy at design power, and money (``price`` in dollars per device-hour, else the catalogue's assumption).

    Raises ValueError for a device with no known rate in ``dtype``, fewer than one device, or an MFU that is none.
    """
    if devices < 1:
        raise ValueError(f"{devices} devices train nothing; give at least 1")
    hours = device_hours(flops, on.rate(dtype), mfu)
    if price is None and on.price is not None:
        price = on.price.dollars
    return Cost(
        flops=flops,
        device=on.name,
        devices=devices,
        mfu=mfu,
        seconds=seconds(flops, devices, on.rate(dtype), mfu),
        device_hours=hours,
        kwh=None if on.watts is None else energy(hours, on.watts, pue),
        dollars=None if price is None else hours * price,
    )


@dataclass(frozen=True)
class Budget:
    """FLOPs, as a person wrote them and how they were derived; what the text did not say is None.

    ``devices`` and ``device_hours`` are of ``device`` at ``mfu`` of its peak, which the text said or not
    (``mfu_given``); ``price`` is the rent that was given, in dollars per device-hour.
    """

    flops: float
    text: str
    how: str
    device: str | None = None
    devices: int | None = None
    device_hours: float | None = None
    mfu: float | None = None
    mfu_given: bool = False
    price: float | None = None

    def __str__(self) -> str:
        return f"{self.flops:.4g} FLOPs: {self.how}"

    def to_json(self) -> dict[str, Any]:
        """The budget as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Assumptions:
    """What a budget's text leaves unsaid. ``here`` is the FLOP/s that this machine reaches in training."""

    mfu: float = USUAL_MFU
    dtype: Dtype = "bf16"
    here: float | None = None
    price: float | None = None
    mfu_given: bool = False


UNDERSTOOD = (
    "write FLOPs (3.8e25), PF-days (3640 PF-days), devices and time (64 H100 x 30 days), device-hours "
    "(1.3M H100-hours), money ($10000 of H100), or a time on this machine (2 hours here); devices and money may end "
    "in 'at 40% MFU' and 'at $2.50/h'; times are in s, min, h, days or weeks"
)


def parse_budget(
    text: str,
    *,
    mfu: float = USUAL_MFU,
    dtype: Dtype = "bf16",
    here: float | None = None,
    price: float | None = None,
) -> Budget:
    """Read a budget as people write it.

    ``mfu`` and ``price`` (dollars per device-hour) stand in where the text gives none; ``here`` is the FLOP/s that this
    machine reaches in training, needed for "2 hours here". Raises ValueError, saying what is understood, for anything
    else, and for a budget that is not positive and finite.
    """
    plain = text.strip().replace("×", " x ").replace("*", " x ")
    bare, assumed = _clauses(plain, Assumptions(mfu, dtype, here, price))
    for pattern, meaning in FORMS:
        if found := re.fullmatch(pattern, bare, FLAGS):
            budget = meaning(found, text, assumed)
            if not 0 < budget.flops < math.inf:
                raise ValueError(f"the budget {text!r} comes to {budget.flops:g} FLOPs; give a positive, finite one")
            if bare != plain and budget.device is None:
                raise ValueError(f"{text!r} names no device for its MFU or rent to be about; leave them out")
            return budget
    if re.search(r"[kmgtpez]flops?(/s|ps)?$", bare, FLAGS):
        raise ValueError(f"{text!r} reads as a rate, not as an amount of work; {UNDERSTOOD}")
    raise ValueError(f"the budget {text!r} is not understood; {UNDERSTOOD}")


def seconds_here(text: str) -> float | None:
    """The seconds in a budget such as "2 hours here"; None for a budget of another kind."""
    found = re.fullmatch(HERE, text.strip(), FLAGS)
    return None if found is None else number(found["time"]) * SECONDS[found["unit"][0].lower()]


FLAGS = re.IGNORECASE | re.ASCII
NUMBER = (
    r"(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)"
    r"(?:e[+-]?\d+|\s*x\s*10\^[+-]?\d+)?(?:(?-i:[kMBT])(?![a-z0-9]))?"
)
UNIT = r"(?P<unit>s(?:ec(?:ond)?s?)?|min(?:ute)?s?|h(?:(?:ou)?rs?)?|d(?:ays?)?|w(?:(?:ee)?ks?)?)"
DEVICE = r"(?P<device>[a-z0-9][\w .-]*?)"
SECONDS = {"s": 1.0, "m": 60.0, "h": HOUR, "d": DAY, "w": 7 * DAY}
SUFFIXES = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def number(text: str) -> float:
    """A number as people write it: 3.8e25, 10,000, 3.8 x 10^25, 1.3M."""
    bare = re.sub(r"x10\^", "e", re.sub(r"[,\s]", "", text), flags=re.IGNORECASE)
    return float(bare.rstrip("kMBT")) * SUFFIXES.get(bare[-1], 1.0)


def _clauses(text: str, assumed: Assumptions) -> tuple[str, Assumptions]:
    """Take the clauses about MFU and rent off the end of a budget's text."""
    while True:
        if found := re.fullmatch(rf"(.*?)\s*(?:\bat|@)\s*({NUMBER})\s*%(?:\s*mfu)?", text, FLAGS):
            assumed = replace(assumed, mfu=number(found[2]) / 100, mfu_given=True)
        elif found := re.fullmatch(rf"(.*?)\s*(?:\bat|@)\s*\$({NUMBER})\s*(?:/|per|an)\s*h(?:r|our)?", text, FLAGS):
            assumed = replace(assumed, price=number(found[2]))
        else:
            return text, assumed
        text = found[1]


def _flops(found: re.Match[str], text: str, _: Assumptions) -> Budget:
    return Budget(number(found["amount"]), text, "as given")


def _pf_days(found: re.Match[str], text: str, _: Assumptions) -> Budget:
    days = number(found["amount"])
    return Budget(days * PF_DAY, text, f"{days:g} PF-days of {PF_DAY:g} FLOPs")


def _here(found: re.Match[str], text: str, assumed: Assumptions) -> Budget:
    if assumed.here is None:
        raise ValueError(f"{text!r} needs this machine's training speed, which was not measured: give its FLOP/s")
    amount, unit = number(found["time"]), found["unit"]
    flops = amount * SECONDS[unit[0].lower()] * assumed.here
    return Budget(flops, text, f"{amount:g} {unit} at the {assumed.here:.3g} FLOP/s that this machine reaches")


def _devices(found: re.Match[str], text: str, assumed: Assumptions) -> Budget:
    count, amount, unit = number(found["count"]), number(found["time"]), found["unit"]
    if count < 1 or not count.is_integer():
        raise ValueError(f"{text!r} has {count:g} devices; give a whole number of them")
    hours = count * amount * SECONDS[unit[0].lower()] / HOUR
    kind = device(found["device"])
    return replace(
        _worth(hours, kind, text, f"{count:g} {kind.name} for {amount:g} {unit}", assumed), devices=int(count)
    )


def _device_hours(found: re.Match[str], text: str, assumed: Assumptions) -> Budget:
    hours = number(found["amount"]) * SECONDS[found["unit"][0].lower()] / HOUR
    kind = device(found["device"])
    return _worth(hours, kind, text, f"{hours:,.6g} {kind.name}-hours", assumed)


def _money(found: re.Match[str], text: str, assumed: Assumptions) -> Budget:
    dollars, kind = number(found["amount"]), device(found["device"])
    if assumed.price is not None:
        rent, origin = assumed.price, "as given"
    elif kind.price is not None:
        rent, origin = kind.price.dollars, f"{kind.price.source}, {kind.price.date}"
    else:
        raise ValueError(f"the catalogue assumes no rent for {kind.name}; end {text!r} in one, such as 'at $2.50/h'")
    if not rent > 0:
        raise ValueError(f"a rent of ${rent:g} an hour is none; give a positive one")
    hours = dollars / rent
    how = f"${dollars:,.12g} at ${rent:g} an hour ({origin}) is {hours:,.6g} {kind.name}-hours"
    return _worth(hours, kind, text, how, assumed)


def _worth(hours: float, kind: Device, text: str, how: str, assumed: Assumptions) -> Budget:
    """A budget of device-hours."""
    rate = kind.rate(assumed.dtype)
    flops = hours * HOUR * rate * share(assumed.mfu)
    how = f"{how}, at {100 * assumed.mfu:.3g}% of {rate / 1e12:g} TFLOP/s ({assumed.dtype}, dense)"
    return Budget(
        flops,
        text,
        how,
        device=kind.name,
        device_hours=hours,
        mfu=assumed.mfu,
        mfu_given=assumed.mfu_given,
        price=assumed.price,
    )


COUNT = rf"(?P<count>{NUMBER})\s*(?:x\s*)?{DEVICE}"
TIME = rf"(?P<time>{NUMBER})\s*{UNIT}"
HERE = rf"{TIME}\s+(?:here|on this machine)"

FORMS: tuple[tuple[str, Callable[[re.Match[str], str, Assumptions], Budget]], ...] = (
    (rf"(?P<amount>{NUMBER})(?:\s*flops?)?", _flops),
    (rf"(?P<amount>{NUMBER})\s*(?:pf|pflop/?s?|petaflop/?s?)[\s-]*days?", _pf_days),
    (HERE, _here),
    (rf"{TIME}\s+(?:of|on)\s+{COUNT}", _devices),
    (rf"{COUNT}(?:\s+x|\s+for\s|\s*,\s)\s*{TIME}", _devices),
    (rf"(?P<amount>{NUMBER})\s*{DEVICE}[\s-]+{UNIT}", _device_hours),
    (rf"(?:\$|usd)\s*(?P<amount>{NUMBER})\s*(?:of|on|for|in)\s+{DEVICE}", _money),
    (rf"(?P<amount>{NUMBER})\s*(?:\$|usd|dollars?)\s*(?:of|on|for|in)\s+{DEVICE}", _money),
)
"""What a budget may look like, tried in this order."""
