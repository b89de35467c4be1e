"""A plan as one screen of text, or the list of candidate shapes; the answer itself is ``planning.planner``'s."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator

from isoflop.cli.tables import aligned
from isoflop.planning.evidence import Estimate
from isoflop.planning.planner import Plan
from isoflop.planning.shape import human
from isoflop.progress import spoken

LABEL = 11  # columns of the label before a paragraph
PATIENCE = 90 * 86_400.0  # seconds of a run after which its reader will ask for more devices


def screen(plan: Plan) -> str:
    """The whole answer as text."""
    sections = (answer(plan), prices(plan), laws(plan), training(plan), hardware(plan), notes(plan))
    return "\n".join(line for section in sections for line in section)


def candidates(plan: Plan) -> str:
    """Every candidate shape, the one that was taken first, and why the others were dropped."""
    shapes = plan.architecture.candidates
    head = f"{len(shapes)} shapes near {human(plan.choice.N)} parameters ({plan.law.counts} counted)"
    return "\n".join([head, *(f"  {c}" for c in shapes)])


def paragraph(label: str, text: str) -> str:
    """A label and text, folded to the terminal with a hanging indent."""
    width = max(60, min(shutil.get_terminal_size((120, 40)).columns, 140))
    return textwrap.fill(text, width, initial_indent=f"{label:<{LABEL}}", subsequent_indent=" " * LABEL)


def answer(plan: Plan) -> Iterator[str]:
    """What to train, and why."""
    shape, N = plan.shape, plan.shape.count(plan.law.counts)
    yield paragraph("budget", str(plan.budget))
    yield paragraph("law", f"{plan.law.name} ({plan.law.meaning})")
    yield paragraph(
        "answer", f"{human(shape.total)} parameters on {human(plan.tokens)} tokens, {plan.tokens / N:.3g} per parameter"
    )
    yield paragraph("", f"the law's own optimum is {said(plan.best_size)} parameters ({plan.law.counts} counted)")
    if plan.loss is not None:
        yield paragraph("loss", f"{plan.loss.value:.4f} nats/token{likely(plan.loss)}")
    for reason in plan.choice.binding:
        yield paragraph("because", reason)
    near, flops = plan.architecture.nearest, plan.flops
    yield paragraph(
        "model",
        f"{shape.layers} layers, width {shape.width:,}, {shape.heads} heads, {shape.kv_heads} key-value heads, FFN "
        f"{shape.ffn:,}, vocabulary {shape.vocab:,}{' (tied)' if shape.tied else ''}, context {shape.context:,}: "
        f"{shape.total:,} parameters, {human(shape.matmul)} in products, {human(shape.body)} without the head",
    )
    like = f"{near.shape.layers} layers, width {near.shape.width:,}, FFN {near.shape.ffn:,}"
    yield paragraph("", f"nearest released: {near.name}, {like}")
    parts = ((flops.linear, "blocks"), (flops.attention, "attention"), (flops.output, "head"))
    yield paragraph(
        "compute",
        f"{6 * N * plan.tokens:.3g} FLOPs as 6ND ({plan.law.counts} counted), {flops.total:.3g} exactly: "
        + ", ".join(f"{part / flops.total:.1%} {name}" for part, name in parts),
    )


def said(estimate: Estimate) -> str:
    """A size with its interval."""
    if estimate.interval is None:
        return human(estimate.value)
    low, high = map(human, estimate.interval)
    return f"{human(estimate.value)} (95%: {low} to {high})"


def likely(loss: Estimate) -> str:
    """The interval of a loss, as a clause."""
    if loss.interval is None:
        return ""
    return f", 95% of such runs between {loss.interval[0]:.4f} and {loss.interval[1]:.4f}"


def prices(plan: Plan) -> Iterator[str]:
    """What being off the optimum costs, and what it saves."""
    if not plan.alternatives:
        return
    rows = [("size", "parameters", "tokens", "loss", "serving a token costs", "training to the plan's loss takes")]
    for a in plan.alternatives:
        same = f"{a.same_loss:.2f} ×" if a.same_loss < 1000 else "not to be had"
        rows.append((f"{a.factor:g} ×", human(a.N), human(a.D), f"{a.price:+.4f}", f"{a.factor:g} ×", same))
    yield "\nother sizes for the same training compute"
    yield aligned(rows)
    if plan.over_life is not None:
        best = plan.over_life
        yield paragraph(
            "",
            f"the loss that all of the budget would buy in training alone ({best.loss:.4f}) costs least over the life "
            f"with {human(best.N)} parameters on {human(best.D)} tokens: {best.C:.3g} FLOPs, serving included",
        )


def laws(plan: Plan) -> Iterator[str]:
    """What every law says of the budget."""
    rows = [("law", "N*", "95%", "D*", "D*/N*", "loss", "of this plan", "")]
    for r in plan.readings:
        span = "" if r.N.interval is None else f"{human(r.N.interval[0])} to {human(r.N.interval[1])}"
        losses = ["" if loss is None else f"{loss:.3f}" for loss in (r.loss, r.loss_of_plan)]
        mark = "" if r.verified else "constants not verified"
        ratio = f"{r.D / r.N.value:.3g}"
        rows.append((r.name, human(r.N.value), span, human(r.D), ratio, losses[0], losses[1], mark))
    yield f"\nwhat laws say of {plan.budget.flops:.3g} FLOPs (losses are of each law's own text: compare only sizes)"
    yield aligned(rows)


def training(plan: Plan) -> Iterator[str]:
    """The schedule."""
    rows = [("stage", "from", "to", "context", "batch", "learning rate")]
    for s in plan.recipe.stages():
        batch = " to ".join(dict.fromkeys(map(human, s.batch)))
        small = 1e-3 * plan.recipe.schedule.peak
        rate = " to ".join(dict.fromkeys(f"{rate:.2g}" if rate > small else "0" for rate in s.learning_rate))
        rows.append((s.name, human(s.start), human(s.end), f"{s.context:,}", batch, rate))
    schedule = plan.recipe.schedule
    warmup = human(schedule.warmup_tokens)
    yield f"\ntraining: {plan.recipe.steps:,} steps, warmup over {warmup} tokens, peak rate {schedule.peak:.3g}"
    yield aligned(rows)
    told = []
    for rule in plan.rules:
        rate = "" if rule.learning_rate is None else f"rate {rule.learning_rate:.2g}"
        batch = "" if rule.batch is None else f"batch {human(rule.batch)}"
        if rate or batch:
            told.append(f"{rule.name} {', '.join(filter(None, (rate, batch)))}")
    yield paragraph("  rules", "; ".join(told))


def hardware(plan: Plan) -> Iterator[str]:
    """Where it fits, how long it takes, and what it costs."""
    cost = plan.cost
    if cost is not None:
        yield f"\nhardware: {cost.devices:,} {cost.device} ({plan.placements[0].how})"
    for placed in plan.placements:
        yield paragraph("  layout", f"context {placed.context:,}: {placed.layout}")
        yield paragraph("  memory", placed.room)
        yield paragraph("  speed", str(placed.step))
        if placed.smaller is not None:
            yield paragraph("  fewer", placed.smaller)
    if cost is not None:
        money = "" if cost.dollars is None else f", ${cost.dollars:,.0f}"
        power = "" if cost.kwh is None else f", {cost.kwh:,.0f} kWh"
        hours = f"{cost.device_hours:,.4g} device-hours at {cost.mfu:.1%} MFU"
        yield paragraph("  takes", f"{spoken_long(cost.seconds)}: {hours}{power}{money}")
        if cost.seconds > PATIENCE and plan.question.devices is None:
            wanted = cost.device_hours * 3600 / PATIENCE
            yield paragraph("  sooner", f"in {PATIENCE / 86_400:.0f} days on some {wanted:,.0f} {cost.device}")
    if plan.serving is not None:
        yield paragraph("\nserving".ljust(LABEL + 1), str(plan.serving))


def spoken_long(seconds: float) -> str:
    """A duration, in days or years where hours are too many to grasp."""
    days = seconds / 86_400
    if days < 2:
        return spoken(seconds)
    return f"{days:,.1f} days" if days < 1000 else f"{days / 365.25:,.3g} years"


def notes(plan: Plan) -> Iterator[str]:
    """What should be known before it is believed."""
    if plan.notes:
        yield ""
    for note in plan.notes:
        yield paragraph("note", note)
