"""Much of everything: runs, images, epochs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tser_lightning.cli.main import main
from tser_lightning.data import Digits, ImageFolder
from tser_lightning.losses import CrossEntropy, DistillationLoss
from tser_lightning.models import Student, resnet_small
from tser_lightning.neurons import LIF
from tser_lightning.report.write import write_report
from tser_lightning.training import Machine, Recipe, fit

pytestmark = pytest.mark.slow

LOSSES = ("ce", "vanilla_kd", "ts", "tser")
RUNS, IMAGES, CLASSES = 10_000, 1_200_000, 1_000


def seconds(work: Callable[[], Any]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def test_ten_thousand_runs_are_reported_and_told_apart_in_seconds(
    memory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(memory)
    for number in range(RUNS):
        loss, lam = LOSSES[number % 4], round(0.01 * (number // 4 % 25), 2)
        home = memory / "runs" / f"digits-loss_{loss}-{number:08x}"
        home.mkdir(parents=True)
        accuracy = {"test/acc": 90 + number % 7, "test/acc_t1": 80.0, "test/acc_t2": 90.0, "train/seconds": 20.0}
        what = {"experiment": "digits", "loss": loss, "data": "digits", "seed": number // 100, "loss.lam": lam}
        (home / "result.json").write_text(json.dumps(what | accuracy))
        (home / "run.json").write_text(json.dumps({"status": "finished", "settings": what}))
        (home / "config.yaml").write_text(f"loss: {{lam: {lam}}}\nstudent: {{timesteps: 2}}\nseed: {number // 100}\n")
        rows = "".join(f"{epoch},{epoch},0.1,1.5,90.0\n" for epoch in range(3))
        (home / "metrics.csv").write_text(f"epoch,step,lr,train/loss,val/acc\n{rows}")
    assert seconds(lambda: write_report("runs/*", memory / "report")) < 120
    text = (memory / "report" / "results.csv").read_text()
    assert len(text.splitlines()) > 90

    words = ["-m", "loss=ce,tser", f"seed={','.join(map(str, range(1, 6)))}", "task=evaluate", "run=runs/none"]
    assert seconds(lambda: main(words)) < 60  # refused, after a look at all runs for one of that name
    assert "there is no such folder" in capsys.readouterr().err


def test_a_million_images_are_listed_once(memory: Path) -> None:
    for part, images in (("train", IMAGES), ("val", CLASSES)):
        for label in range(CLASSES):
            folder = memory / part / f"n{label:04}"
            folder.mkdir(parents=True)
            opened = os.open(folder, os.O_RDONLY)
            for number in range(images // CLASSES):
                os.close(os.open(f"{number:05}.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=opened))
            os.close(opened)
    command = """
import sys, time
from tser_lightning.data import ImageFolder
started = time.monotonic()
data = ImageFolder(sys.argv[1], num_classes=1000, shape=[3, 224, 224], mean=[0.5] * 3, std=[0.5] * 3)
print(len(data.labels("train")), data.fingerprint(), time.monotonic() - started)
"""
    assert ImageFolder.__module__.startswith("tser_lightning.data")
    starts = []
    for _ in range(2):
        told = subprocess.run([sys.executable, "-c", command, str(memory)], capture_output=True, text=True, check=True)
        starts.append(told.stdout.split())
    (count, digest, first), (count_2, digest_2, second) = starts
    assert count == count_2 == str(IMAGES)
    assert digest == digest_2
    print(f"first {float(first):.1f} s, then {float(second):.1f} s")
    assert float(second) < 30


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_memory_stays_flat_over_a_hundred_epochs(memory: Path) -> None:
    data = Digits(10, [1, 8, 8], mean=[0.3], std=[0.4], augment={"crop": 1}, batch_size=256)
    student = Student(resnet_small(10, 1, LIF, widths=(4, 8)), 2)
    sizes: list[float] = []
    fit(
        student,
        DistillationLoss({"ce": CrossEntropy()}),
        None,
        data,
        memory,
        recipe=Recipe(epochs=100, ema=0.99),
        machine=Machine(accelerator="cpu", workers=0),
        record=lambda row: sizes.append(resident_mb()),
    )
    assert len(sizes) == 100
    print(f"{sizes[19]:.0f} MiB after 20 epochs, {sizes[-1]:.0f} after 100")
    assert sizes[-1] - sizes[19] < 8
