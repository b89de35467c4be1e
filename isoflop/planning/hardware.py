"""A catalogue of devices: what they hold, how fast they multiply and move, what they draw, and what an hour costs.

Rates are dense matrix products at the vendor's peak, never with structured sparsity (which data sheets print first);
16- and 8-bit rates are those that accumulate in fp32, because training does. Memory is what the driver reports, not
the number on the box. Links count one direction, where vendors print the sum of both. Prices are assumptions with a
date. Instant. Left out: devices' smaller variants (PCIe cards, fewer cores), fp4, sustained clocks: what is reached
of a peak is the MFU's business.

``verified``: read in the vendor's text or a full copy of its table, with the rates recomputed from units, clock
and operations per cycle (the tests do), or measured here. What is not known for certain is None, and ``note`` says why.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, fields
from typing import Any, Literal

from isoflop.config import from_dict, to_dict

Dtype = Literal["fp32", "tf32", "bf16", "fp8", "int8"]

GB, TERA, MIB, GIB = 1e9, 1e12, 2**20, 2**30


@dataclass(frozen=True)
class Rates:
    """Dense matrix products: multiplications and additions per second; None where there is none, or none is known."""

    fp32: float | None = None
    tf32: float | None = None
    bf16: float | None = None
    fp8: float | None = None
    int8: float | None = None


@dataclass(frozen=True)
class Price:
    """An assumed rent in US dollars an hour, and when (year and month) it was typical; give your own to be sure."""

    dollars: float
    date: str
    source: str = "assumption: rounded from on-demand price lists of clouds"


@dataclass(frozen=True)
class Device:
    """One kind of device. Bytes, bytes/s, FLOP/s and watts, per device.

    ``link`` is to its neighbours in a node and ``network`` to other nodes, each way; ``per_node`` is how many share
    the link, None where the builder decides. ``watts`` is the design power (TDP), not what a run draws.
    """

    name: str
    source: str
    verified: bool
    memory: int | None = None
    bandwidth: float | None = None
    rates: Rates = Rates()
    link: float | None = None
    network: float | None = None
    per_node: int | None = None
    watts: float | None = None
    price: Price | None = None
    note: str = ""
    aliases: tuple[str, ...] = ()

    def rate(self, dtype: Dtype = "bf16") -> float:
        """Dense FLOP/s (operations for int8) in a type. ValueError where none is known, with those that are."""
        known = {field.name: getattr(self.rates, field.name) for field in fields(Rates)}
        if dtype not in known:
            raise ValueError(f"there is no type {dtype!r}; the catalogue has {', '.join(known)}")
        if known[dtype] is None:
            others = ", ".join(name for name, rate in known.items() if rate) or "none"
            reason = f"; {self.note}" if self.note else ""
            raise ValueError(f"{self.name} has no known {dtype} rate (known: {others}){reason}")
        return float(known[dtype])

    def to_json(self) -> dict[str, Any]:
        """The device as plain values, without those that are None."""
        return to_dict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Device:
        """A device from :meth:`to_json`'s values, or of the user's own. Raises ValueError naming the key at fault."""
        return from_dict(cls, values, "device")


def device(name: str) -> Device:
    """The catalogue's device of this name, however it is spelled: ``h100 sxm``, ``H100s``, ``RTX4090``, ``A100-80GB``.

    A plain A100 is the 80 GB one. Raises ValueError with the nearest names for one that is not in the catalogue.
    """
    key = _key(name)
    if key in _SPELLINGS:
        return _SPELLINGS[key]
    near = difflib.get_close_matches(key, _SPELLINGS, n=3, cutoff=0.5)
    names = list(dict.fromkeys(_SPELLINGS[spelling].name for spelling in near))
    hint = f"did you mean {' or '.join(names)}?" if names else f"it has {', '.join(DEVICES)}"
    raise ValueError(f"the catalogue has no device {name!r}; {hint}")


def _key(name: str) -> str:
    """A spelling without case, punctuation, vendor, ``GPU`` and plural."""
    bare = re.sub(r"[^a-z0-9]|nvidia|geforce|amd|instinct|apple", "", name.lower())
    return re.sub(r"s?(gpus?)?$", "", bare)


PRICED = "2026-05"
NVLINK_3, NVLINK_4, NVLINK_5 = 300 * GB, 450 * GB, 900 * GB  # each way: 12, 18, 18 links of 25, 25, 50 GB/s
PCIE_4, PCIE_5 = 31.5 * GB, 63.0 * GB  # 16 lanes of 16 and 32 GT/s, 128 bits in 130
INFINIBAND_200, INFINIBAND_400 = 25 * GB, 50 * GB  # one 200 or 400 Gb/s port a device
AMPERE = Rates(fp32=19.5 * TERA, tf32=156 * TERA, bf16=312 * TERA, int8=624 * TERA)
HOPPER = Rates(fp32=66.9 * TERA, tf32=494.7 * TERA, bf16=989.4 * TERA, fp8=1978.9 * TERA, int8=1978.9 * TERA)
NO_FP8 = "no fp8 in hardware"
CARD = "no fabric between cards: they meet over PCIe, and how many share a machine is the builder's choice"
APPLE_NOTE = (
    "Apple publishes no matrix rate and no design power: measure one; memory is the largest configuration's, shared "
    "with the processor (macOS gives the GPU about three quarters of it)"
)

_DEVICES = (
    Device(
        name="A100-40",
        source="NVIDIA A100 Tensor Core GPU data sheet (SXM); NVIDIA Ampere architecture white paper",
        verified=True,
        memory=40_960 * MIB,
        bandwidth=1555 * GB,
        rates=AMPERE,
        link=NVLINK_3,
        network=INFINIBAND_200,
        per_node=8,
        watts=400,
        price=Price(1.30, PRICED),
        note=NO_FP8,
        aliases=("A100-40GB", "A100 SXM 40GB", "A100-SXM4-40GB"),
    ),
    Device(
        name="A100-80",
        source="NVIDIA A100 Tensor Core GPU data sheet (SXM)",
        verified=True,
        memory=81_920 * MIB,
        bandwidth=2039 * GB,
        rates=AMPERE,
        link=NVLINK_3,
        network=INFINIBAND_200,
        per_node=8,
        watts=400,
        price=Price(1.50, PRICED),
        note=NO_FP8,
        aliases=("A100", "A100-80GB", "A100 SXM", "A100 SXM 80GB", "A100-SXM4-80GB"),
    ),
    Device(
        name="H100",
        source="NVIDIA H100 Tensor Core GPU data sheet (SXM5); NVIDIA H100 architecture white paper",
        verified=True,
        memory=81_559 * MIB,
        bandwidth=3350 * GB,
        rates=HOPPER,
        link=NVLINK_4,
        network=INFINIBAND_400,
        per_node=8,
        watts=700,
        price=Price(2.70, PRICED),
        aliases=("H100 SXM", "H100 SXM5", "H100-80", "H100-80GB", "H100 80GB HBM3"),
    ),
    Device(
        name="H200",
        source="NVIDIA H200 Tensor Core GPU data sheet (SXM)",
        verified=True,
        memory=143_771 * MIB,
        bandwidth=4800 * GB,
        rates=HOPPER,
        link=NVLINK_4,
        network=INFINIBAND_400,
        per_node=8,
        watts=700,
        price=Price(3.60, PRICED),
        note="the H100's chip with other memory",
        aliases=("H200 SXM", "H200-141GB"),
    ),
    Device(
        name="B200",
        source="NVIDIA Blackwell data sheet, HGX B200",
        verified=True,
        memory=183_359 * MIB,
        bandwidth=7700 * GB,
        rates=Rates(fp32=75 * TERA, tf32=1100 * TERA, bf16=2250 * TERA, fp8=4500 * TERA, int8=4500 * TERA),
        link=NVLINK_5,
        network=INFINIBAND_400,
        per_node=8,
        watts=1000,
        price=Price(6.00, PRICED),
        note="as in an HGX board at 1,000 W; half of the sheet's rates, which are with sparsity",
        aliases=("B200 SXM", "HGX B200"),
    ),
    Device(
        name="MI300X",
        source="AMD Instinct MI300X data sheet; AMD CDNA 3 white paper",
        verified=True,
        memory=196_592 * MIB,
        bandwidth=5300 * GB,
        rates=Rates(fp32=163.4 * TERA, tf32=653.7 * TERA, bf16=1307.4 * TERA, fp8=2614.9 * TERA, int8=2614.9 * TERA),
        link=448 * GB,
        network=INFINIBAND_400,
        per_node=8,
        watts=750,
        price=Price(2.50, PRICED),
        note="the link is seven point-to-point links of 64 GB/s; two devices alone have one of them",
        aliases=("MI300X OAM",),
    ),
    Device(
        name="RTX 4090",
        source="NVIDIA Ada GPU architecture white paper, appendix A",
        verified=True,
        memory=24_564 * MIB,
        bandwidth=1008 * GB,
        rates=Rates(fp32=82.6 * TERA, tf32=82.6 * TERA, bf16=165.2 * TERA, fp8=330.3 * TERA, int8=660.6 * TERA),
        link=PCIE_4,
        watts=450,
        price=Price(0.70, PRICED),
        note=CARD,
        aliases=("4090",),
    ),
    Device(
        name="RTX 5090",
        source="NVIDIA RTX Blackwell GPU architecture white paper, table 3",
        verified=True,
        memory=32_607 * MIB,
        bandwidth=1792 * GB,
        rates=Rates(fp32=104.8 * TERA, tf32=104.8 * TERA, bf16=209.5 * TERA, fp8=419 * TERA, int8=838 * TERA),
        link=PCIE_5,
        watts=575,
        price=Price(0.90, PRICED),
        note=CARD,
        aliases=("5090",),
    ),
    Device(
        name="L4",
        source="NVIDIA L4 Tensor Core GPU data sheet",
        verified=True,
        memory=23_034 * MIB,
        bandwidth=300 * GB,
        rates=Rates(fp32=30.3 * TERA, tf32=60 * TERA, bf16=121 * TERA, fp8=242.5 * TERA, int8=242.5 * TERA),
        link=PCIE_4,
        watts=72,
        price=Price(0.70, PRICED),
        note=f"half of the sheet's rates, which are with sparsity; {CARD}",
    ),
    *(
        Device(
            name=name,
            source="Apple's technical specifications of the Mac, as the press reports them",
            verified=False,
            memory=memory * GIB,
            bandwidth=bandwidth * GB,
            per_node=1,
            note=APPLE_NOTE,
        )
        for name, memory, bandwidth in (
            ("M2 Max", 96, 400),
            ("M2 Ultra", 192, 800),
            ("M3 Max", 128, 400),
            ("M3 Ultra", 512, 819),
            ("M4 Max", 128, 546),
        )
    ),
    Device(
        name="CPU",
        source="measured, docs/lab.md: two cores of a cloud machine, AMD EPYC (Zen 4: AVX-512 BF16, no AMX)",
        verified=True,
        memory=24 * GIB,
        bandwidth=20 * GB,
        rates=Rates(fp32=175e9, bf16=442e9),
        per_node=1,
        price=Price(0.10, PRICED),
        note="both cores together, best matrix products; memory by adding long fp32 arrays while other work ran",
        aliases=("cpu zen4", "Zen 4", "2 core cpu"),
    ),
    Device(
        name="CPU AMX",
        source="probed, docs/lab.md: two cores of a cloud machine with AMX, 1.2 to 2 TFLOP/s",
        verified=False,
        rates=Rates(bf16=1.2 * TERA),
        per_node=1,
        price=Price(0.18, PRICED),
        note="the lower end of what probes gave; nothing else of that machine was written down",
    ),
)

DEVICES: dict[str, Device] = {entry.name: entry for entry in _DEVICES}
"""The catalogue by name."""

_SPELLINGS = {_key(spelling): entry for entry in _DEVICES for spelling in (entry.name, *entry.aliases)}
