"""Metrics also sent elsewhere: to TensorBoard's event files in the run's directory, or to trackio's store.

``metrics.jsonl`` stays the record; a sink is a copy for a screen. So it may never cost a run anything: whatever goes
wrong in one is said once, and training goes on without it. After a resumption TensorBoard is told to forget what came
after the checkpoint, and trackio is told no step twice (on a CPU the repeated steps are the same to the bit). Both are
imported only where asked for; sending is theirs, in threads of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from typing import Any, Literal, Protocol, get_args

from isoflop import config as configuration
from isoflop.training.config import TrainConfig
from isoflop.training.run import Run

SinkName = Literal["tensorboard", "trackio"]
NOT_SHOWN = ("step", "tokens")
"""What is the axis, not a curve."""


class Sink(Protocol):
    """Something that is told every line of metrics."""

    def write(self, step: int, values: dict[str, float]) -> None:
        """Take the metrics of a step."""
        ...

    def close(self) -> None:
        """Send what is left."""
        ...


class TensorBoard:
    """Event files in ``tensorboard/`` of the run's directory, over steps."""

    def __init__(self, run: Run, config: TrainConfig, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run.path / "tensorboard"
        self._writer = SummaryWriter(str(folder), purge_step=step + 1)
        if step == 0:
            self._writer.add_text("config", f"```toml\n{configuration.dumps(config)}```")

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add a point to every curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()


class Trackio:
    """A run in trackio's project ``isoflop``, called by its directory; its own settings (``TRACKIO_DIR``,
    ``TRACKIO_SPACE_ID``) say where that is kept.
    """

    PROJECT = "isoflop"

    def __init__(self, run: Run, config: TrainConfig, step: int) -> None:
        import trackio
        from trackio.sqlite_storage import SQLiteStorage

        name = str(run.path.resolve())
        told = SQLiteStorage.get_max_step_for_run(self.PROJECT, name)
        self._told = -1 if told is None else int(told)
        with redirect_stdout(sys.stderr):
            self._run = trackio.init(
                self.PROJECT,
                name,
                config=configuration.to_dict(config),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
            )

    def write(self, step: int, values: dict[str, float]) -> None:
        """Log a step that was not told yet."""
        if step > self._told:
            self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Send what is left."""
        with redirect_stdout(sys.stderr):
            self._run.finish()


KINDS: dict[SinkName, Callable[[Run, TrainConfig, int], Sink]] = {"tensorboard": TensorBoard, "trackio": Trackio}


class Sinks:
    """The sinks of a run that still work."""

    def __init__(self, names: Sequence[SinkName], run: Run, config: TrainConfig, step: int) -> None:
        """Open the sinks of a run that stands after ``step`` steps."""
        self._open: dict[str, Sink] = {}
        for name in names:
            self._try(name, partial(self._start, name, run, config, step))

    def write(self, values: dict[str, float]) -> None:
        """Tell all a line of metrics."""
        if self._open:
            curves = {key: value for key, value in values.items() if key not in NOT_SHOWN}
            for name, sink in list(self._open.items()):
                self._try(name, partial(sink.write, int(values["step"]), curves))

    def close(self) -> None:
        """Close all."""
        for name, sink in list(self._open.items()):
            self._try(name, sink.close)
        self._open.clear()

    def _start(self, name: SinkName, run: Run, config: TrainConfig, step: int) -> None:
        self._open[name] = KINDS[name](run, config, step)

    def _try(self, name: str, action: Callable[[], Any]) -> None:
        """Do something with a sink; if it fails, say so and do without it from now on."""
        try:
            action()
        except Exception as error:
            self._open.pop(name, None)
            missing = f"; pip install {error.name}" if isinstance(error, ModuleNotFoundError) else ""
            print(
                f"isoflop: metrics no longer go to {name} ({type(error).__name__}: {error}{missing}); "
                f"training goes on, and metrics.jsonl has all of them",
                file=sys.stderr,
                flush=True,
            )


def sink_names(words: Sequence[str]) -> tuple[SinkName, ...]:
    """Names of sinks as given, by commas or one by one. Raises ValueError for one that is unknown."""
    names = [name for word in words for name in word.split(",") if name]
    for name in names:
        if name not in get_args(SinkName):
            raise ValueError(f"metrics can be sent to {' or '.join(get_args(SinkName))}, not to {name!r}")
    return tuple(dict.fromkeys(names))  # type: ignore[arg-type]
