"""Device-hours that the planner expects of the released Llamas' trainings, beside those that their cards report.

    python benchmarks/released_hours.py

Devices are a guess where the papers name none: 512 for models up to 13B, 2,048 above, 16,384 for the 405B. The batch is
4M tokens to begin with, as all of them report. Nothing is fitted: efficiencies are the defaults. Seconds.
"""

from __future__ import annotations

from collections.abc import Iterator

from isoflop.planning.duration import parse_budget
from isoflop.planning.placement import Placement, place
from isoflop.planning.recipe import recipe
from isoflop.planning.released import RELEASED, Released
from isoflop.planning.resources import Resources

FIRST_BATCH = 4 * 2**20


def devices_of(model: Released) -> int:
    """A plausible number of devices."""
    return 512 if model.parameters < 2e10 else 2048 if model.parameters < 1e11 else 16_384


def expected() -> Iterator[tuple[Released, Placement]]:
    """Every released model with its training placed on hardware."""
    for model in RELEASED.values():
        on = Resources.of(parse_budget("1e22"), model.training.device, devices_of(model), None)
        run = recipe(model.shape, model.training.tokens, first_batch=FIRST_BATCH)
        (placed,) = place(model.shape, run, on)
        yield model, placed


def main() -> None:
    """Print a line a model."""
    print(f"{'model':<16}{'devices':>16}{'card, hours':>14}{'expected':>13}{'differs':>9}{'MFU':>7}  layout")
    for model, placed in expected():
        card, here = model.training.device_hours, placed.cost.device_hours
        devices = f"{placed.cost.devices:,} {placed.cost.device}"
        row = f"{model.name:<16}{devices:>16}{card:>14,.0f}{here:>13,.0f}{here / card - 1:>+9.0%}"
        print(f"{row}{placed.cost.mfu:>7.1%}  {placed.layout}")


if __name__ == "__main__":
    main()
