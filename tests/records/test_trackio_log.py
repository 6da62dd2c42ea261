import csv
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import compose_run
from tser_lightning.config.usage_errors import UsageErrors

PROGRAM = Path(sys.executable).with_name("trackio")  # the reader: the package's own command
INSTALLED = find_spec("trackio") is not None and PROGRAM.exists()
needed = pytest.mark.skipif(not INSTALLED, reason="trackio is an extra that dev has not: it wants an older pillow")
SHORT = ["teacher.training.epochs=1", "trainer.epochs=6", "logging.wandb.mode=disabled", "logging.trackio=snn"]
KILLING = """
import os, pathlib, signal, time
import lightning.pytorch as pl

class Kill(pl.Callback):
    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 4 and not pathlib.Path("killed").exists():
            pathlib.Path("killed").touch()
            time.sleep(2)  # trackio writes twice a second
            os.kill(os.getpid(), signal.SIGKILL)
"""


def run(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRACKIO_")}
    command = [sys.executable, "-m", "tser_lightning", *SHORT, *words]
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False, timeout=600)


def told(folder: Path, *words: str) -> Any:
    where = os.environ | {"TRACKIO_DIR": str(folder / "runs" / "trackio")}
    command = [str(PROGRAM), *words, "--project", "snn", "--json"]
    return json.loads(subprocess.run(command, env=where, capture_output=True, text=True, check=True).stdout)


def column(home: Path, name: str) -> list[float]:
    with (home / "metrics.csv").open() as rows:
        return [float(row[name]) for row in csv.DictReader(rows)]


def values(folder: Path, name: str, metric: str) -> list[tuple[int, float]]:
    found = told(folder, "get", "metric", "--run", name, "--metric", metric)["values"]
    return [(each["step"], each["value"]) for each in found]


@needed
def test_a_run_reads_back_with_its_curve_its_measures_and_its_config(tmp_path: Path) -> None:
    ended = run(tmp_path)
    assert ended.returncode == 0, ended.stderr
    (home,) = (tmp_path / "runs").glob("digits-*")
    assert f"TRACKIO_DIR={tmp_path}/runs/trackio trackio show --project snn" in ended.stderr + ended.stdout
    assert told(tmp_path, "list", "runs")["runs"] == [home.name]
    curve = [value for _, value in values(tmp_path, home.name, "val/acc")]
    assert curve == pytest.approx(column(home, "val/acc"), abs=0.01)
    result = json.loads((home / "result.json").read_text())
    measures = {name: value for name, value in result.items() if "/" in name}
    listed = set(told(tmp_path, "list", "metrics", "--run", home.name)["metrics"])
    assert listed >= measures.keys() | {"by_step/table", "test/acc_step_mean"}
    for name in ("test/acc", "test/acc_t1", "test/ece"):
        assert [value for _, value in values(tmp_path, home.name, name)] == pytest.approx([measures[name]])
    config = told(tmp_path, "get", "run", "--run", home.name)["config"]
    assert (config["loss"]["name"], config["_Group"]) == ("tser", "digits")


@needed
@pytest.mark.slow
def test_a_run_that_was_killed_and_went_on_is_one_history(tmp_path: Path) -> None:
    (tmp_path / "killing.py").write_text(KILLING)
    words = ["+callbacks.kill._target_=killing.Kill", "trusted_modules=[killing]"]
    assert run(tmp_path, *words).returncode == -9
    ended = run(tmp_path, *words)
    assert ended.returncode == 0, ended.stderr
    (name,) = told(tmp_path, "list", "runs")["runs"]
    steps = column(tmp_path / "runs" / name, "step")
    assert len(steps) == 6
    assert [step + 1 for step, _ in values(tmp_path, name, "val/acc")] == steps


@pytest.mark.skipif(INSTALLED, reason="trackio is installed")
def test_without_the_extra_the_command_says_what_to_install(configs: Configs) -> None:
    with pytest.raises(UsageErrors, match=r"pip install 'tser-lightning\[trackio\]'"):
        compose_run(["logging.trackio=snn"], configs=configs)


def test_a_project_that_trackio_would_call_otherwise_is_refused(configs: Configs) -> None:
    with pytest.raises(UsageErrors, match=r"logging\.trackio=a\.b is no name of a project"):
        compose_run(["logging.trackio=a.b"], configs=configs)
