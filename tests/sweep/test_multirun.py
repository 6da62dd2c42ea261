import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tser_lightning.cli.main import main
from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import compose_run
from tser_lightning.records.sweep_record import read_sweeps

Told = Callable[..., list[tuple[str, str, str]]]

MINE = """
import os, pathlib, time

class Fine:
    name = "fine"
    def __init__(self, **settings): pass
    def prepare(self): print("prepared by", os.getpid())

class Broken(Fine):
    def prepare(self): raise RuntimeError("no")

class Slow(Fine):
    def prepare(self):
        pathlib.Path(f"began-{os.getpid()}").touch()
        time.sleep(600)
"""
# One batch of everything, the teacher's training included.
TINY = ["debug=step", "machine.runs_dir=records", "data.validation=0.5", "logging.wandb.mode=disabled"]
OWN = ["task=prepare", "trusted_modules=[mine]", "machine.runs_dir=records"]
MOST_SECONDS = 900


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "tser_lightning", "-m", *words]


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command(*words), capture_output=True, text=True, check=False, timeout=MOST_SECONDS)


def until(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + MOST_SECONDS
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.05)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def finished(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("records/*/result.json"))


def test_a_wrong_job_leaves_no_trace(told: Told, folder: Path) -> None:
    told("-m", "seed=1,2", "loss.tau=1,0")
    assert not list(folder.iterdir())


def test_a_folder_for_hydras_outputs_is_refused(told: Told, folder: Path) -> None:
    (mistake,) = told("-m", "seed=1,2", "hydra.sweep.dir=out")
    assert mistake[0] == "hydra.sweep.dir does nothing here"
    assert not list(folder.iterdir())


def test_a_launcher_that_is_not_there_is_refused_and_nothing_runs_without_it(told: Told, folder: Path) -> None:
    (mistake,) = told("-m", "seed=1,2", "hydra/launcher=ray_gun")
    assert mistake[0] == "hydra/launcher=ray_gun: In 'hydra/config': Could not find 'hydra/launcher/ray_gun'"
    assert not list(folder.iterdir())


def test_slurms_launcher_without_slurm_is_refused(told: Told, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    monkeypatch.setenv("PATH", str(folder))
    (mistake,) = told("-m", "seed=1,2", "hydra/launcher=submitit_slurm")
    assert mistake[0] == "hydra/launcher=submitit_slurm finds no Slurm here: no `sbatch`, no `srun`"
    assert not list(folder.iterdir())


def test_a_sweep_that_would_be_one_run_is_refused(told: Told, folder: Path) -> None:
    (mistake,) = told("sweep=lambda", "debug=step")
    assert (mistake[0], mistake[2]) == (
        "sweep=lambda gives settings several values, and this is one run",
        "-m sweep=lambda",
    )
    assert not list(folder.iterdir())


def test_finished_runs_are_known_without_a_process(
    configs: Configs, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (1, 2):
        home = folder / "records" / compose_run(["loss=ce", f"seed={seed}"], configs=configs).name
        home.mkdir(parents=True)
        (home / "result.json").write_text('{"loss": "ce", "test/acc": 90.0}')
    assert main(["-m", "loss=ce", "seed=1,2,1", "machine.runs_dir=records"]) == 0
    told = capsys.readouterr()
    assert told.err.startswith("tser: 2 jobs, 1 more is the same run in other words, 2 finished before, 0 to do")
    assert "task=report runs=records/.sweeps/" in " ".join(told.out.split())


@pytest.mark.slow
def test_one_process_per_job_and_a_failed_job_takes_no_other_along(folder: Path) -> None:
    (folder / "mine.py").write_text(MINE)
    ended = run(*OWN, "data._target_=mine.Broken,mine.Fine", "seed=1,2", "machine.slots=2")
    processes = [line for line in ended.stdout.splitlines() if line.startswith("prepared by")]
    assert len(processes) == len(set(processes)) == 2
    assert ended.returncode == 1
    assert "tser: 2 of 4 jobs done" in ended.stderr
    assert ended.stderr.count(f"  exit code 1: {' '.join(OWN)} data._target_=mine.Broken seed=") == 2
    assert "  RuntimeError: no" in ended.stderr
    assert [path.name for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"] == ["records"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.slow
def test_jobs_end_with_their_sweep_however_it_ends(folder: Path, number: signal.Signals) -> None:
    (folder / "mine.py").write_text(MINE)
    words = command(*OWN, "data._target_=mine.Slow", "seed=1,2", "machine.slots=2")
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as sweep:
        until(lambda: len(list(folder.glob("began-*"))) == 2 or sweep.poll() is not None)
        jobs = [int(path.name.partition("-")[2]) for path in folder.glob("began-*")]
        assert len(jobs) == 2
        sweep.send_signal(number)
        until(lambda: not any(map(is_alive, jobs)))
    assert sweep.returncode == (-9 if number == signal.SIGKILL else 143)


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
@pytest.mark.slow
def test_launchers_of_hydra_run_the_same_jobs(folder: Path, launcher: str) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    (folder / "mine.py").write_text(MINE)
    ended = run(
        *OWN,
        "data._target_=mine.Fine,mine.Broken",
        f"hydra/launcher={launcher}",
        *(["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []),
    )
    assert f"tser: 1 of 2 jobs done\n  exit code 1: {' '.join(OWN)} data._target_=mine.Broken" in ended.stderr
    assert ended.returncode == 1
    if launcher == "submitit_local":
        logs = sorted((folder / "records" / ".sweeps").glob("*/.submitit/*/*_log.out"))
        one, other = sorted(log.parent.name for log in logs)
        assert (
            f"tser: submitit: jobs {one}, {other}, logs in {logs[0].parent.parent.relative_to(folder)}\n"
            in ended.stderr
        )


@pytest.mark.slow
def test_two_jobs_that_start_together_train_one_teacher(folder: Path) -> None:
    ended = run(*TINY[:-1], "logging.wandb.mode=offline", "loss=tser", "seed=1,2", "machine.slots=2")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.endswith(
        "tser: W&B: logged offline in records/wandb; `wandb sync records/wandb/offline-run-*` sends it\n"
    )
    assert len(finished(folder)) == 2
    (teacher,) = (path for path in (folder / "records" / "teachers").iterdir() if path.is_dir())
    logs = [log.read_text() for log in folder.glob("records/.sweeps/*/*.log")]
    assert sum("training the teacher" in log for log in logs) == 1
    hashes = {json.loads((home / "run.json").read_text())["inputs"]["teacher"] for home in finished(folder)}
    assert len(hashes) == 1
    assert (teacher / "teacher.safetensors").is_file()
    (sweep,) = read_sweeps(folder / "records")
    assert [asked.settings["student.timesteps"] for asked in sweep.runs] == [6, 6]  # a run that never began has its T


@pytest.mark.slow
def test_a_sweep_that_is_killed_twice_ends_with_every_cell_once(folder: Path, configs: Configs) -> None:
    words = [*TINY, "loss=ce,tser", "seed=1,2", "machine.slots=2"]
    clock = random.Random(4)
    for _ in range(2):
        with subprocess.Popen(command(*words), stderr=subprocess.DEVNULL, start_new_session=True) as sweep:
            time.sleep(clock.uniform(5, 40))
            os.killpg(sweep.pid, signal.SIGKILL)
    ended = run(*words)
    assert ended.returncode == 0, ended.stderr
    cells = [[*TINY, f"loss={loss}", f"seed={seed}"] for loss in ("ce", "tser") for seed in (1, 2)]
    expected = sorted(compose_run([*cell, "machine.slots=2"], configs=configs).name for cell in cells)
    homes = [path for path in (folder / "records").iterdir() if path.name.startswith("digits")]
    assert sorted(path.name for path in homes) == [path.name for path in finished(folder)] == expected
    assert {json.loads((home / "run.json").read_text())["status"] for home in homes} == {"finished"}
    assert all(len((home / "metrics.csv").read_text().splitlines()) == 2 for home in homes)  # a header, one epoch
    assert not list((folder / "records").rglob(".*.part"))
