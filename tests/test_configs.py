"""Every file in conf/ and experiments/ composes and runs one step on tiny data; new files are found by themselves."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tser_lightning.cli.run import compose_run
from tser_lightning.cli.tasks import run_task

ROOT = Path(__file__).parent.parent
TINY = [
    "data=synthetic",
    "data.train_images=8",
    "data.test_images=4",
    "data.batch_size=4",
    "data.validation=0.5",
    "data.shape=[3,32,32]",
    "student.timesteps=2",
    "teacher=resnet_small",
    "teacher.weights=null",
    "debug=step",
    "logging.wandb.mode=disabled",
    "machine.accelerator=cpu",
]
NEEDS_SETTINGS = {"custom", "none"}


def options(folder: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / folder).glob("*.yaml") if path.stem not in NEEDS_SETTINGS)


def run(*overrides: str, runs_dir: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    keys = {override.partition("=")[0] for override in overrides}
    settings = [setting for setting in TINY if setting.partition("=")[0] not in keys]
    return run_task(compose_run([*settings, f"machine.runs_dir={runs_dir}", *overrides]))


def check(result: dict[str, Any]) -> None:
    assert 0 <= result["test/acc"] <= 100
    assert result["debug"] == "step"
    assert result["data"] == "synthetic"


@pytest.mark.parametrize("loss", options("conf/loss"))
def test_loss(loss: str, tmp_path: Path) -> None:
    check(run(f"loss={loss}", runs_dir=tmp_path))


@pytest.mark.parametrize("neuron", options("conf/neuron"))
def test_neuron(neuron: str, tmp_path: Path) -> None:
    check(run(f"neuron={neuron}", runs_dir=tmp_path))


@pytest.mark.parametrize("norm", options("conf/norm"))
def test_norm(norm: str, tmp_path: Path) -> None:
    check(run(f"norm={norm}", runs_dir=tmp_path))


LARGE = ("_8_", "_6_", "_384", "cml", "resnet50", "resnet34", "resnet19", "vgg11", "vgg16", "sdt_2")


@pytest.mark.parametrize(
    "student",
    [
        pytest.param(name, marks=pytest.mark.slow if any(part in name for part in LARGE) else ())
        for name in options("conf/student")
    ],
)
def test_student(student: str, tmp_path: Path) -> None:
    check(run(f"student={student}", runs_dir=tmp_path))


@pytest.mark.parametrize(
    "teacher",
    [
        pytest.param(name, marks=pytest.mark.slow if any(part in name for part in LARGE) else ())
        for name in options("conf/teacher")
    ],
)
def test_teacher(teacher: str, tmp_path: Path) -> None:
    check(run(f"teacher={teacher}", runs_dir=tmp_path))


@pytest.mark.parametrize("group", ["optim", "schedule", "trainer"])
def test_small_groups(group: str, tmp_path: Path) -> None:
    for option in options(f"conf/{group}"):
        check(run(f"{group}={option}", runs_dir=tmp_path / option))


@pytest.mark.parametrize("experiment", [name for name in options("experiments") if name != "paper"])
def test_experiment(experiment: str, tmp_path: Path) -> None:
    settings = yaml.safe_load((ROOT / "experiments" / f"{experiment}.yaml").read_text())
    chosen = {key.removeprefix("override /"): name for line in settings["defaults"] for key, name in line.items()}
    small = ["student=resnet_small"] if any(part in str(chosen.get("student")) for part in LARGE) else []
    result = run(f"experiment={experiment}", "trainer.precision=32-true", *small, runs_dir=tmp_path)
    check(result)
    assert result["experiment"] == experiment
