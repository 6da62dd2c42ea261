"""task=predict on a small finished run, and the same in Python."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tser_lightning as tl
from tser_lightning.data import Digits, ImageFolder
from tser_lightning.deploy.inputs import batches, image
from tser_lightning.errors import UsageError

Command = Callable[..., dict[str, Any]]

SETTINGS = [
    "loss=ce",
    "teacher=none",
    "trainer.epochs=8",
    "data.batch_size=32",
    "neuron.v_threshold=0.5",
    "student.widths=[8,16]",
    "student.timesteps=3",
]


@pytest.fixture(scope="module")
def home(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work") / "runs"
    command(*SETTINGS, f"machine.runs_dir={folder}")
    (found,) = folder.glob("digits-*")
    return found


def digits(home: Path) -> Digits:
    config = json.loads((home / "student.json").read_text())
    return Digits(10, config["shape"], mean=config["mean"], std=config["std"])


@pytest.fixture
def pictures(home: Path, tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    pixels_BCHW = digits(home).read("test", torch.arange(12), None)
    for index, pixels in enumerate(pixels_BCHW):
        Image.fromarray(pixels[0].numpy()).save(tmp_path / "in" / f"{index:02d}.png")
    np.save(tmp_path / "in.npy", pixels_BCHW.permute(0, 2, 3, 1).numpy())
    return tmp_path / "in"


def test_a_folder_is_classified_as_the_student_classifies_its_test_split(
    command: Command, home: Path, pictures: Path
) -> None:
    result = command("task=predict", f"run={home}", f"input={pictures}", "exit.max_loss=null")
    (batch,) = digits(home).loader("test", batch_size=360)
    student = tl.load_student(home)
    with torch.no_grad():
        expected_BC = student(batch.images[:12]).mean(0).softmax(-1)
    rows = json.loads((home / "predictions.json").read_text())
    assert result["images"] == 12
    assert [Path(row["file"]).name for row in rows] == [f"{index:02d}.png" for index in range(12)]
    assert [row["class"] for row in rows] == [str(label) for label in expected_BC.argmax(-1).tolist()]
    assert torch.equal(torch.tensor([list(row["probabilities"].values()) for row in rows]), expected_BC)
    assert {row["steps"] for row in rows} == {3}
    table = list(csv.DictReader((home / "predictions.csv").open()))
    assert [float(row["probability"]) for row in table] == [row["probability"] for row in rows]
    assert set(table[0]) == {"file", "class", "probability", "steps", *student.classes}
    assert student.predict(student.image(pictures / "03.png"), early=False).classes.item() == int(rows[3]["class"])


def test_an_exit_is_fitted_once_measured_and_kept_in_the_card(
    command: Command, home: Path, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = pictures.parent / "out.csv"
    asked = ["task=predict", f"run={home}", "exit.max_loss=5"]
    result = command(*asked, f"input={pictures.with_suffix('.npy')}", f"output={output}")
    kept = json.loads((home / "student.json").read_text())["exit"]
    assert (kept["max_loss"], kept["bound"], kept["images"]) == (5, "clopper_pearson", 115)
    assert kept["threshold"] is not None
    assert result["exit/mean_steps"] < 3
    assert result["exit/accuracy"] >= result["exit/accuracy_full"] - 5
    assert result["exit/energy_mj"] < result["exit/energy_full_mj"]
    assert json.loads((home / "result.json").read_text())["test/acc"] == pytest.approx(result["exit/accuracy_full"])
    assert json.loads((home / "result.json").read_text())["test/energy_mj"] == pytest.approx(
        result["exit/energy_full_mj"]
    )
    measured = json.loads((home / "exit.json").read_text())
    assert sum(measured["share_at_step"]) == pytest.approx(100)
    assert measured["curve"][-1]["mean_steps"] == 1
    steps = [int(row["steps"]) for row in csv.DictReader(output.open())]
    assert sum(steps) / 12 == result["predict/mean_steps"] < 3
    again = command(*asked)
    assert again["exit/latency_ms"] == result["exit/latency_ms"]  # read, not measured anew
    student = tl.load_student(home / "student.safetensors")
    assert student.exit is not None
    (batch,) = digits(home).loader("test", batch_size=360)
    assert student.predict(batch.images).steps.float().mean() == pytest.approx(result["exit/mean_steps"])
    command("task=predict", f"run={home}")
    assert "144 validation images cannot show a loss of at most 0.5 points" in caplog.text


def test_files_are_seen_as_in_the_evaluation_of_a_folder_of_images(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(2):
                pixels = generator.integers(0, 256, (20 + 6 * index, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{index}.png")
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.2]
    data = ImageFolder(tmp_path, num_classes=2, shape=[3, 16, 16], mean=mean, std=std)
    (batch,) = data.loader("test", batch_size=4)
    card = {"shape": [3, 16, 16], "resize": data.resize, "mean": mean, "std": std}
    ((names, images_BCHW),) = batches(tmp_path / "val", card)
    assert torch.equal(images_BCHW, batch.images)
    assert torch.equal(image(names[2], card), batch.images[2:3])


def test_what_cannot_be_classified_is_refused(command: Command, home: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "floats.npy", np.zeros((2, 8, 8, 1)))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty").mkdir()
    for given, message in (
        (tmp_path / "floats.npy", "holds float64"),
        (tmp_path / "text.png", "cannot be read"),
        (tmp_path / "empty", "no file in it is an image"),
        (tmp_path / "none.png", "no such file or folder"),
    ):
        with pytest.raises(UsageError, match=message):
            command("task=predict", f"run={home}", f"input={given}", "exit.max_loss=null")
    with pytest.raises(UsageError, match=r"neither a \.csv nor a \.json"):
        command("task=predict", f"run={home}", f"input={home}", "output=out.txt", "exit.max_loss=null")
