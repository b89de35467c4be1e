"""A sweep on Ray or Slurm is the sweep on this machine: same directories, same results, gone on with after a stop."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from isoflop.interrupt import Interrupted
from isoflop.progress import silent
from isoflop.sweeps import slurm
from isoflop.sweeps.executor import Pool, Workers, run_sweep
from isoflop.sweeps.grid import SweepConfig
from isoflop.sweeps.places import hiring
from isoflop.sweeps.results import read_results
from isoflop.sweeps.slurm import SlurmArray

SBATCH = """#!{python}
import os, subprocess, sys
here = os.path.dirname(os.path.abspath(__file__))
open(here + "/asked", "a").write(" ".join(sys.argv[1:]) + "\\n")
if "--partition=closed" in sys.argv:
    sys.exit("sbatch: error: invalid partition specified: closed")
array = next(a for a in sys.argv if a.startswith("--array="))
last = int(array.split("-")[-1].split("%")[0])
for task in range(last + 1):
    log = open(os.devnull, "w")
    environment = os.environ | {{"SLURM_ARRAY_TASK_ID": str(task)}}
    process = subprocess.Popen(["bash", sys.argv[-1]], env=environment, stdout=log, stderr=log, start_new_session=True)
    open(here + "/pids", "a").write(str(process.pid) + "\\n")
print("4711;cluster")
"""
SQUEUE = """#!{python}
import os, sys
here = os.path.dirname(os.path.abspath(__file__))
for pid in open(here + "/pids").read().split():
    try:
        if open("/proc/" + pid + "/stat").read().split()[2] != "Z":
            print("RUNNING")
    except OSError:
        pass
"""
WORKER = """
import sys, time, pathlib, signal
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
while (folder / "hold").exists():
    time.sleep(0.02)
if (folder / "fail").exists():
    sys.exit("the tokens are nowhere")
(folder / (name + ".done")).write_text(name)
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of jobs a, b and c and a worker module for them; sbatch and squeue that start processes here."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE)):
        (tools / name).write_text(text.format(python=sys.executable))
        (tools / name).chmod(stat.S_IRWXU)
    (tools / "pids").touch()
    (tools / "odd_jobs.py").write_text(WORKER)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{tools}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(slurm, "SECONDS", 0.0)
    folder = tmp_path / "a folder"
    folder.mkdir()
    return folder


def pending(folder: Path) -> Callable[[], list[str]]:
    return lambda: [name for name in "abc" if not (folder / f"{name}.done").exists()]


def hire(folder: Path, *options: str) -> Workers:
    return SlurmArray.using(options)("odd_jobs", folder, 2)


def asked(folder: Path) -> list[str]:
    return (folder.parent / "tools" / "asked").read_text().splitlines()


def test_array_does_every_job_that_is_not_done(cluster: Path) -> None:
    (cluster / "b.done").touch()
    watched: list[int] = []
    hire(cluster, "--partition=gpu", "--time=4:00:00").perform(pending(cluster), lambda: watched.append(1))
    assert sorted(path.name for path in cluster.glob("*.done")) == ["a.done", "b.done", "c.done"]
    assert (cluster / "b.done").read_text() == ""
    assert watched
    script = cluster / "slurm" / "array.sh"
    assert asked(cluster) == [f"--parsable --array=0-1%2 --partition=gpu --time=4:00:00 {script}"]
    assert "#SBATCH --signal=B:TERM@120" in script.read_text()
    hire(cluster).perform(pending(cluster), silent_watch)
    assert len(asked(cluster)) == 1


def silent_watch() -> None:
    pass


def test_stopped_command_finds_its_array_again(cluster: Path) -> None:
    (cluster / "hold").touch()
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(Interrupted, match="array 4711 goes on without this"):
        hire(cluster).perform(pending(cluster), silent_watch)
    threading.Timer(1.0, (cluster / "hold").unlink).start()
    hire(cluster).perform(pending(cluster), silent_watch)
    assert len(asked(cluster)) == 1
    assert not pending(cluster)()


def test_array_that_ended_early_is_said_with_its_last_words_and_submitted_again(cluster: Path) -> None:
    (cluster / "fail").touch()
    with pytest.raises(RuntimeError, match=r"3 of its jobs are not done, the first a: the tokens are nowhere"):
        hire(cluster).perform(pending(cluster), silent_watch)
    (cluster / "fail").unlink()
    hire(cluster).perform(pending(cluster), silent_watch)
    assert len(asked(cluster)) == 2
    assert json.loads((cluster / "slurm" / "array.json").read_text())["jobs"] == ["a", "b", "c"]


def test_warning_before_the_time_limit_reaches_the_worker(cluster: Path) -> None:
    """``--signal=B`` is sent to the batch shell; the worker has taken its place."""
    (cluster / "hold").touch()
    script = SlurmArray("odd_jobs", cluster).script(cluster / "jobs.txt")
    (cluster / "jobs.txt").write_text("a\n")
    (cluster / "array.sh").write_text(script)
    process = subprocess.Popen(["bash", str(cluster / "array.sh")], env=os.environ | {"SLURM_ARRAY_TASK_ID": "0"})
    while not (cluster / "a.log").exists():
        time.sleep(0.02)
    time.sleep(1.0)
    process.terminate()
    assert process.wait(20) == 75


def test_refusal_of_slurm_and_its_absence_are_said(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="sbatch refused: .*invalid partition"):
        hire(cluster, "--partition=closed").perform(pending(cluster), silent_watch)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match="there is no sbatch here"):
        hire(cluster).perform(pending(cluster), silent_watch)


def test_scheduler_that_cannot_answer_is_no_end_of_an_array(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeue = cluster.parent / "tools" / "squeue"
    squeue.write_text("#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact slurm controller' >&2\nexit 1\n")
    assert slurm.queued("4711")
    squeue.write_text("#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2\nexit 1\n")
    assert not slurm.queued("4711")
    monkeypatch.setenv("PATH", "/nowhere")
    assert slurm.queued("4711")


def test_places_are_named_as_people_say_them() -> None:
    assert hiring("local") == Pool.here
    workers = hiring("slurm --partition=gpu --comment='two words'")("m", Path("f"), 3)
    assert isinstance(workers, SlurmArray)
    assert workers.options == ("--partition=gpu", "--comment=two words")
    assert workers.count == 3
    for wrong in ("", "local host", "ray a b", "kubernetes"):
        with pytest.raises(ValueError, match="workers are hired on local, ray"):
            hiring(wrong)
    with pytest.raises(ValueError, match="at least one worker, not 0"):
        hiring("slurm")("m", Path("f"), 0)


@pytest.fixture
def tiny_sweep(tiny_tokens: Path) -> SweepConfig:
    """Two budgets of about a second each."""
    return SweepConfig(
        (1e9, 2e9), str(tiny_tokens), 300, context=32, first_batch=256, centre=0.3, validation_tokens=512
    )


@pytest.mark.slow
def test_sweep_on_ray_gives_the_results_of_this_machine(tiny_sweep: SweepConfig, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    run_sweep(tiny_sweep, tmp_path / "here", silent)
    run_sweep(tiny_sweep, tmp_path / "ray", silent, 2, hiring("ray"))
    assert read_results(tmp_path / "ray").loss.tolist() == read_results(tmp_path / "here").loss.tolist()
    assert read_results(tmp_path / "ray").missing == 0


@pytest.mark.slow
def test_stopped_sweep_on_ray_saves_and_goes_on(tiny_tokens: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    config = SweepConfig(
        (4e9, 8e9), str(tiny_tokens), 300, context=32, first_batch=256, centre=0.3, validation_tokens=512
    )
    sweep = tmp_path / "sweep"
    code = (
        "import sys; from pathlib import Path; from isoflop import config; from isoflop.progress import silent;"
        "from isoflop.sweeps.executor import run_sweep; from isoflop.sweeps.grid import SweepConfig;"
        "from isoflop.sweeps.places import hiring;"
        "run_sweep(config.load(SweepConfig, Path(sys.argv[1])), Path(sys.argv[2]), silent, 2, hiring('ray'))"
    )
    run_sweep(config, tmp_path / "whole", silent)
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "whole" / "sweep.toml"), str(sweep)])
    while process.poll() is None and not list(sweep.glob("*/*/metrics.jsonl")):
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) != 0
    before = {path: path.stat().st_mtime_ns for path in sweep.glob("*/*/metrics.jsonl")}
    time.sleep(2.0)
    assert before == {path: path.stat().st_mtime_ns for path in sweep.glob("*/*/metrics.jsonl")}
    assert list(sweep.glob("*/*/checkpoints/*/checkpoint.json"))
    run_sweep(config, sweep, silent, 2, hiring("ray"))
    assert read_results(sweep).loss.tolist() == read_results(tmp_path / "whole").loss.tolist()


@pytest.mark.slow
def test_failed_worker_on_ray_says_why(tiny_sweep: SweepConfig, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(RuntimeError, match="ended with status 1: .*nowhere"):
        run_sweep(replace(tiny_sweep, data=str(tmp_path / "nowhere")), tmp_path / "sweep", silent, 2, hiring("ray"))


@pytest.mark.slow
def test_sweep_on_slurm_gives_the_results_of_this_machine(
    cluster: Path, tiny_sweep: SweepConfig, tmp_path: Path
) -> None:
    run_sweep(tiny_sweep, tmp_path / "here", silent)
    run_sweep(tiny_sweep, cluster, silent, 2, hiring("slurm"))
    assert read_results(cluster).loss.tolist() == read_results(tmp_path / "here").loss.tolist()
