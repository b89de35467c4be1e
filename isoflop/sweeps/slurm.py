"""The workers of a sweep as an array of Slurm jobs: a script is written, submitted once, and watched from outside.

All nodes must see the sweep's folder, its tokens and this Python under the same paths. What is done is read from the
run directories; Slurm is only asked whether the array is still there. So the command that waits may be stopped, and
given again on any node: it finds the array it submitted, or submits what is left. A worker is told two minutes before
its time is up, saves and leaves. The interface is tested with stand-ins for ``sbatch`` and ``squeue``; no cluster was
at hand. Left out: sending the next array by itself when time was up.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from isoflop.files import write_json, write_text
from isoflop.interrupt import Interrupted, interruptible
from isoflop.sweeps.executor import SINGLE, last_words, wait

AT_ONCE = 32
"""Jobs of an array that may run at the same time, if nobody says otherwise."""
SECONDS = 15.0
"""Between two questions to the scheduler, which many ask."""

SCRIPT = """#!/bin/bash
#SBATCH --job-name=isoflop
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --signal=B:TERM@120
#SBATCH --output=/dev/null
{environment}
job=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {names})
exec {python} -m {module} {folder} "$job" >> {folder}/"$job".log 2>&1
"""


@dataclass(frozen=True)
class SlurmArray:
    """Workers ``python -m module folder job``, each a job of an array, of which at most ``count`` run at a time."""

    module: str
    folder: Path
    options: tuple[str, ...] = ()
    count: int = AT_ONCE

    @classmethod
    def using(cls, options: Sequence[str] = ()) -> Callable[[str, Path, int | None], SlurmArray]:
        """What hires workers by ``sbatch`` with the user's own options (partition, time, account and so on)."""

        def hire(module: str, folder: Path, workers: int | None) -> SlurmArray:
            if workers is not None and workers < 1:
                raise ValueError(f"there must be at least one worker, not {workers}")
            return cls(module, folder.resolve(), tuple(options), workers or AT_ONCE)

        return hire

    def perform(self, pending: Callable[[], list[str]], watch: Callable[[], None]) -> None:
        """Do the pending jobs, as :class:`isoflop.sweeps.executor.Workers` says; stopped, the array goes on."""
        array = self.submitted()
        if not queued(array):
            if not (left := pending()):
                return
            array = self.submit(left)
        asked = time.monotonic()
        with interruptible() as stopped:
            while pending():
                wait(stopped)
                watch()
                if stopped():
                    raise Interrupted(f"array {array} goes on without this; end it with: scancel --signal=TERM {array}")
                if time.monotonic() - asked > SECONDS:
                    if not queued(array) and (left := pending()):
                        raise RuntimeError(self.unfinished(array, left))
                    asked = time.monotonic()
        watch()

    def submit(self, names: list[str]) -> str:
        """Write the script and the list of jobs, submit them, and remember the array's number."""
        place = self.folder / "slurm"
        place.mkdir(parents=True, exist_ok=True)
        write_text(place / "jobs.txt", "".join(f"{name}\n" for name in names))
        write_text(place / "array.sh", self.script(place / "jobs.txt"))
        array = f"--array=0-{len(names) - 1}%{self.count}"
        answer = ask("sbatch", "--parsable", array, *self.options, str(place / "array.sh"))
        number = answer.strip().split(";")[0]  # a federation answers "number;cluster"
        write_json(place / "array.json", {"array": number, "jobs": names})
        return number

    def script(self, names: Path) -> str:
        """The array's script: the job is the line of ``names`` that the task's number says."""
        environment = "\n".join(f"export {key}=${{SLURM_CPUS_PER_TASK:-{value}}}" for key, value in SINGLE.items())
        python, module, folder, listed = map(shlex.quote, (sys.executable, self.module, str(self.folder), str(names)))
        return SCRIPT.format(environment=environment, python=python, module=module, folder=folder, names=listed)

    def submitted(self) -> str:
        """The number of the array that was last submitted for this folder; empty if there was none."""
        try:
            return str(json.loads((self.folder / "slurm" / "array.json").read_text())["array"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def unfinished(self, array: str, left: list[str]) -> str:
        """What to say when the array has left the queue before its jobs were done."""
        return (
            f"array {array} has left the queue and {len(left)} of its jobs are not done, the first {left[0]}: "
            f"{last_words(self.folder, left[0])} (all of it in {self.folder / left[0]}.log); the same command "
            f"submits what is left"
        )


def queued(array: str) -> bool:
    """Whether Slurm still has jobs of an array waiting or running; what it cannot say counts as yes."""
    if not array:
        return False
    command = ["squeue", "--noheader", "--jobs", array, "--format=%T"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    except OSError:
        return True
    if answer.returncode:
        return "invalid job id" not in answer.stderr.lower()  # Slurm forgets arrays some minutes after their end
    return bool(answer.stdout.strip())


def ask(*command: str) -> str:
    """What a command of Slurm answers. A ValueError where there is none or it refuses, with its words."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ValueError(
            f"there is no {command[0]} here: give this command on a machine that submits to Slurm"
        ) from None
    if answer.returncode:
        raise ValueError(f"{command[0]} refused: {answer.stderr.strip() or answer.stdout.strip()}")
    return answer.stdout
