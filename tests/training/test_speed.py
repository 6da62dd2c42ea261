import copy
import os
import platform
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD

import tser_lightning as tl
from tser_lightning.data import ImageFolder
from tser_lightning.data.data_module import ImageDataModule
from tser_lightning.data.synthetic import Synthetic
from tser_lightning.errors import UsageError
from tser_lightning.losses import CrossEntropy, DistillationLoss, KLDivergence
from tser_lightning.models import Student, relu
from tser_lightning.models.norms import TDBN
from tser_lightning.models.resnet import resnet_small
from tser_lightning.neurons import LIF
from tser_lightning.training import Machine, Recipe, SingleStep, Teacher, fit
from tser_lightning.training.schedule import Constant
from tser_lightning.training.speed import described, prepare_student

PLACE = (3, 8, 8), torch.device("cpu")  # the shape of an image, and where


def curve(folder: Path, precision: str = "32-true", **settings: Any) -> list[float]:
    """The loss of every epoch of a short training with some machine settings."""
    torch.manual_seed(0)
    data = Synthetic(4, (3, 8, 8), train_images=24, test_images=4, batch_size=8, augment={"crop": 1, "flip": True})
    teacher = Teacher(resnet_small(4, 3, relu, widths=(4,)))
    student = Student(resnet_small(4, 3, LIF, widths=(4, 8)), timesteps=2)
    rows: list[Any] = []
    fit(
        student,
        DistillationLoss({"ce": CrossEntropy(), "kl": KLDivergence()}),
        teacher,
        data,
        folder / "checkpoints",
        recipe=Recipe(epochs=3, optimizer=partial(SGD, lr=0.05), precision=precision),
        machine=Machine(accelerator="cpu", runs_dir=str(folder), **settings),
        selection="last",
        record=rows.append,
    )
    return [row["train/loss"] for row in rows]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses with the settings that are there by default."""
    return curve(tmp_path_factory.mktemp("expected"))


@pytest.mark.parametrize(
    "settings",
    [
        {"fused": False},
        {"fused_optimizer": False},
        {"channels_last": False},
        {"memory": "low"},
        {"memory": "lowest"},
        pytest.param({"compile": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_no_choice_shows_in_the_loss(settings: dict[str, Any], expected: list[float], tmp_path: Path) -> None:
    ours = curve(tmp_path, **settings)
    assert len(ours) == 3
    assert ours == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_answers_that_are_read_give_the_same_losses_to_the_last_bit(precision: str, tmp_path: Path) -> None:
    live = curve(tmp_path / "live", precision)
    runs = tmp_path / "kept"
    for kept in (curve(runs, precision, teacher_cache=3) for _ in range(2)):
        assert kept == live
        for file in (runs / "checkpoints").iterdir():
            file.unlink()
    assert next((runs / "teachers" / "logits").glob("*.logits")).stat().st_size == 3 * 24 * 4 * (
        4 if precision == "32-true" else 2
    )


@pytest.mark.slow
def test_a_compiled_training_has_the_same_losses_and_leaves_no_trace(tmp_path: Path) -> None:
    """With a loss that looks into the student, a validation, and a second part that goes on without a compiler."""
    torch.manual_seed(0)
    data = Synthetic(4, (3, 8, 8), train_images=24, test_images=4, batch_size=8, eval_batch_size=2, validation=0.25)
    teacher = Teacher(resnet_small(4, 3, relu, widths=(4, 8)))
    first = Student(resnet_small(4, 3, LIF, widths=(4, 8)), timesteps=2)
    found = []
    for how in (False, True):
        student, rows = copy.deepcopy(first), list[Any]()
        for epochs, compile in ((1, how), (2, False)):
            fit(
                student,
                tl.build_loss("kdsnn", mode="feature"),
                teacher,
                data,
                tmp_path / str(how),
                recipe=Recipe(epochs=epochs, optimizer=partial(SGD, lr=0.05), schedule=Constant()),
                machine=Machine(accelerator="cpu", runs_dir=str(tmp_path), compile=compile),
                record=rows.append,
            )
        names = torch.load(tmp_path / str(how) / "last.ckpt", weights_only=True)["state_dict"]
        assert {name for name in names if name.startswith("student.")} == {f"student.{n}" for n in first.state_dict()}
        student.timesteps = 3
        heard = [0]
        student.net.get_submodule("layer1").register_forward_hook(lambda *_: heard.append(1))  # noqa: B023
        assert student(torch.rand(2, 3, 8, 8)).shape == (3, 2, 4)
        assert heard == [0, 1]
        found.append([row[name] for row in rows for name in ("train/loss", "val/acc")])
    assert len(found[0]) == 4
    assert found[1] == pytest.approx(found[0], abs=1e-4)


def test_settings_reach_the_student() -> None:
    student = Student(resnet_small(4, 3, LIF, widths=(4,)), timesteps=2)
    prepare_student(student, Recipe(), Machine(fused=False, memory="low"), *PLACE)
    neurons = [module for module in student.modules() if isinstance(module, LIF)]
    assert neurons
    assert not any(neuron.fused for neuron in neurons)
    assert student.saves_memory
    assert not student.recomputes
    prepare_student(student, Recipe(), Machine(memory="lowest"), *PLACE)
    assert student.saves_memory
    assert student.recomputes
    prepare_student(student, Recipe(), Machine(), *PLACE)
    assert all(neuron.fused for neuron in neurons)
    assert not student.saves_memory
    assert not student.recomputes


@pytest.mark.parametrize(
    ("settings", "accumulate", "words"),
    [
        ({"memory": "small"}, 1, "memory=small is none of auto, low, lowest"),
        ({"compile": "max"}, 1, "compile=max is none of False, True, reduce-overhead"),
        ({"compile": True, "memory": "low"}, 1, "compile=True does not go with memory=low"),
        ({"compile": "reduce-overhead"}, 2, "does not go with accumulate=2"),
    ],
)
def test_what_is_unknown_or_does_not_go_together_is_refused(
    settings: dict[str, Any], accumulate: int, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        prepare_student(torch.nn.Identity(), Recipe(accumulate=accumulate), Machine(**settings), *PLACE)


def line(student: torch.nn.Module, machine: Machine, fused: bool = True, data: Any = None) -> str:
    prepare_student(student, Recipe(), machine, *PLACE)
    optimizer = SGD(student.parameters(), lr=0.1, fused=fused)
    data = data or Synthetic(4, (3, 8, 8), train_images=8, test_images=4)
    return described(student, ImageDataModule(data, workers=machine.workers), machine, torch.device("cpu"), optimizer)


def test_the_line_about_the_machine_follows_what_is_there() -> None:
    torch.set_num_threads(1)
    student = Student(resnet_small(4, 3, LIF, widths=(4, 8)), timesteps=2)
    assert line(student, Machine()) == (
        "cpu, 1 thread, eager neurons, fused with their norms, channels_last, fused optimiser, images on the host, "
        "0 workers"
    )
    plain = Machine(fused=False, channels_last=False, memory="lowest", workers=1)
    assert line(student, plain, fused=False) == (
        "cpu, 1 thread, eager neurons, spikes kept as bits, blocks computed twice, images on the host, 1 worker"
    )
    assert "1 thread, compiled by torch, channels_last" in line(student, Machine(compile=True))
    named = Student(resnet_small(4, 3, partial(LIF, backend="reference"), norm=TDBN, widths=(4,)), timesteps=2)
    assert "1 thread, reference neurons, channels_last" in line(named, Machine())
    assert "neurons" not in line(SingleStep(resnet_small(4, 3, relu, widths=(4,))), Machine())
    folder = ImageFolder("nowhere", num_classes=4, shape=[3, 8, 8], mean=[0.5] * 3, std=[0.2] * 3)
    cores = len(os.sched_getaffinity(0))
    assert line(student, Machine(), data=folder).endswith(f"images on the disk, {cores} worker{'s' * (cores > 1)}")


def test_the_line_is_said_at_the_start_of_a_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "tser_lightning"):
        curve(tmp_path, fused_optimizer=False)
    [said] = [record.getMessage() for record in caplog.records if record.getMessage().startswith("machine: ")]
    assert said.startswith("machine: cpu, ")
    assert "optimiser" not in said


CHURN = """
import resource
import torch
from tser_lightning.training.speed import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first = faults()
keep_freed_memory()
faults()
print(first, faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have no such setting")
def test_freed_memory_is_not_asked_of_the_system_again() -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", CHURN], env=plain, capture_output=True, check=True)
    returned, kept = map(int, done.stdout.split())
    assert kept < 100 < returned  # a page each, 4 KiB to 2 MiB
