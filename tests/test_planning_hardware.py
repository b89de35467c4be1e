"""The catalogue against first principles: rates from units, operations and clocks, bandwidth from bus and pins."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from isoflop.planning.hardware import DEVICES, Device, Price, Rates, device

# Units (SMs or CUs), boost clock in GHz of matrix products, and per unit and cycle the operations of a dense
# product in each type, an addition and a multiplication counting as two.
UNITS = {
    "A100-40": (108, 1.410, {"fp32": 128, "tf32": 1024, "bf16": 2048, "int8": 4096}),
    "A100-80": (108, 1.410, {"fp32": 128, "tf32": 1024, "bf16": 2048, "int8": 4096}),
    "H100": (132, 1.830, {"tf32": 2048, "bf16": 4096, "fp8": 8192, "int8": 8192}),
    "H200": (132, 1.830, {"tf32": 2048, "bf16": 4096, "fp8": 8192, "int8": 8192}),
    "MI300X": (304, 2.100, {"fp32": 256, "tf32": 1024, "bf16": 2048, "fp8": 4096, "int8": 4096}),
    "RTX 4090": (128, 2.520, {"fp32": 256, "tf32": 256, "bf16": 512, "fp8": 1024, "int8": 2048}),
    "RTX 5090": (170, 2.407, {"fp32": 256, "tf32": 256, "bf16": 512, "fp8": 1024, "int8": 2048}),
    "L4": (58, 2.040, {"fp32": 256, "tf32": 512, "bf16": 1024, "fp8": 2048, "int8": 2048}),
}

# Bus in bits, and gigabits per second and pin.
BUSES = {
    "A100-40": (5120, 2.43),
    "A100-80": (5120, 3.186),
    "H100": (5120, 5.238),
    "H200": (6144, 6.25),
    "MI300X": (8192, 5.2),
    "RTX 4090": (384, 21.0),
    "RTX 5090": (512, 28.0),
    "L4": (192, 12.5),
    "M2 Max": (512, 6.4),
    "M2 Ultra": (1024, 6.4),
    "M3 Max": (512, 6.4),
    "M3 Ultra": (1024, 6.4),
    "M4 Max": (512, 8.533),
}


@pytest.mark.parametrize(("name", "dtype"), [(name, dtype) for name, (_, _, types) in UNITS.items() for dtype in types])
def test_dense_rates_are_units_times_operations_times_clock(name: str, dtype: str) -> None:
    units, gigahertz, operations = UNITS[name]
    assert DEVICES[name].rate(dtype) == pytest.approx(units * operations[dtype] * gigahertz * 1e9, rel=0.015)


@pytest.mark.parametrize("name", BUSES)
def test_bandwidth_is_bus_times_pins(name: str) -> None:
    bits, gigabits = BUSES[name]
    assert DEVICES[name].bandwidth == pytest.approx(bits * gigabits * 1e9 / 8, rel=0.025)


def test_every_verified_gpu_is_complete_and_checked_here_or_in_a_vendors_table() -> None:
    for entry in DEVICES.values():
        assert entry.source
        if entry.verified and "measured" not in entry.source:
            for field in ("memory", "bandwidth", "link", "watts", "price"):
                assert getattr(entry, field), (entry.name, field)
            assert entry.name in UNITS or entry.name == "B200"


def test_what_is_missing_has_a_reason_and_prices_a_date() -> None:
    for entry in DEVICES.values():
        if entry.rates.bf16 is None or entry.memory is None or entry.per_node is None:
            assert entry.note, entry.name
        if entry.price is not None:
            assert "assumption" in entry.price.source
            assert entry.price.date.startswith("20")


def test_rates_do_not_fall_as_types_narrow() -> None:
    for entry in DEVICES.values():
        known = [rate for field in fields(Rates) if (rate := getattr(entry.rates, field.name)) is not None]
        assert known == sorted(known), entry.name


@pytest.mark.parametrize(("spelling", "name"), [
    ("H100", "H100"),
    ("h100 sxm", "H100"),
    ("NVIDIA H100 80GB HBM3", "H100"),
    ("H100s", "H100"),
    ("H100 GPUs", "H100"),
    ("A100", "A100-80"),
    ("a100-40gb", "A100-40"),
    ("NVIDIA A100-SXM4-80GB", "A100-80"),
    ("RTX4090", "RTX 4090"),
    ("GeForce RTX 5090", "RTX 5090"),
    ("AMD Instinct MI300X", "MI300X"),
    ("Apple M3 Ultra", "M3 Ultra"),
    ("cpu", "CPU"),
])  # fmt: skip
def test_devices_are_found_however_they_are_spelled(spelling: str, name: str) -> None:
    assert device(spelling).name == name


def test_spellings_are_not_shared() -> None:
    for entry in DEVICES.values():
        assert all(device(spelling) is entry for spelling in (entry.name, *entry.aliases))


@pytest.mark.parametrize(("wrong", "hint"), [
    ("H10O", "did you mean H100"),
    ("H100 PCIe", "did you mean H100"),  # another device: not silently this one
    ("RTX 4080", "did you mean RTX 4090"),
    ("TPU v5p", "it has A100-40, A100-80, H100"),
    ("", "it has A100-40"),
])  # fmt: skip
def test_an_unknown_device_is_refused_with_the_nearest(wrong: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        device(wrong)


def test_an_unknown_rate_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"A100-80 has no known fp8 rate \(known: fp32, tf32, bf16, int8\); no fp8"):
        device("A100").rate("fp8")
    with pytest.raises(ValueError, match="Apple publishes no matrix rate"):
        device("M4 Max").rate()
    with pytest.raises(ValueError, match="no type 'fp64'"):
        device("H100").rate("fp64")  # type: ignore[arg-type]


def test_json_goes_both_ways_and_takes_a_device_of_ones_own() -> None:
    for entry in DEVICES.values():
        assert Device.from_json(json.loads(json.dumps(entry.to_json()))) == entry
    own = Device.from_json({"name": "mine", "source": "measured", "verified": True, "rates": {"bf16": 5e13}})
    assert own.rate() == 5e13
    assert own.memory is None


@pytest.mark.parametrize(("change", "words"), [
    ({"memmory": 1}, "unknown key 'memmory'; did you mean 'memory'"),
    ({"rates": {"fp64": 1.0}}, "device.rates has an unknown key 'fp64'"),
    ({"memory": "80 GB"}, "device.memory must be int"),
])  # fmt: skip
def test_json_that_is_no_device_says_where(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Device.from_json({"name": "mine", "source": "measured", "verified": True, **change})


def test_prices_can_be_replaced() -> None:
    cheap = replace(device("H100"), price=Price(1.99, "2027-01", "our contract"))
    assert cheap.price is not None
    assert cheap.price.dollars == 1.99
    assert device("H100").price != cheap.price
