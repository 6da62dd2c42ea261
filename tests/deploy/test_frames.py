"""Recordings of an event camera: classified from a file, and exported, as they are evaluated."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tser_lightning as tl
from tser_lightning.data import write_prepared
from tser_lightning.deploy.inputs import batches
from tser_lightning.errors import UsageError

Command = Callable[..., dict[str, Any]]

DATA = ["data=cifar10_dvs", "data.timesteps=3", "data.num_classes=2", "data.shape=[2,8,8]", "data.validation=0.25"]
NET = ["student.timesteps=3", "student.widths=[4,8]", "neuron.v_threshold=0.3", "loss=ce", "teacher=none"]
SHORT = ["experiment=none", "trainer.epochs=2", "data.batch_size=8", "selection=val"]


@pytest.fixture(scope="module")
def counts_NTCHW() -> np.ndarray[Any, Any]:
    """Recordings whose second half of classes has many more events."""
    draws = np.random.default_rng(0).poisson(3, (48, 3, 2, 8, 8))
    return (draws * (1 + 2 * (np.arange(48) % 2))[:, None, None, None, None]).astype(np.uint8)


@pytest.fixture(scope="module")
def home(command: Command, tmp_path_factory: pytest.TempPathFactory, counts_NTCHW: Any) -> Path:
    folder = tmp_path_factory.mktemp("events")
    images = counts_NTCHW.transpose(0, 3, 4, 1, 2).reshape(48, 8, 8, 6)
    arrays = {f"{part}_images": images for part in ("train", "test")}
    labels = {f"{part}_labels": np.arange(48) % 2 for part in ("train", "test")}
    write_prepared(folder / "cifar10_dvs-per_class_90_10-t3-8x8.safetensors", arrays | labels)
    place = [f"data.root={folder}", f"data.path={folder}", f"machine.runs_dir={folder / 'runs'}"]
    command(*SHORT, *DATA, *NET, *place)
    (found,) = (folder / "runs").glob("*-*")
    return found


def test_recordings_in_a_file_are_classified_as_in_the_evaluation(
    command: Command, home: Path, counts_NTCHW: Any, tmp_path: Path
) -> None:
    np.save(tmp_path / "in.npy", counts_NTCHW)
    result = command(
        "task=predict", f"run={home}", f"input={tmp_path / 'in.npy'}", "exit.max_loss=50", "exit.bound=none"
    )
    rows = json.loads((home / "predictions.json").read_text())
    assert result["images"] == 48
    right = [int(row["class"]) == index % 2 for index, row in enumerate(rows)]
    assert 100 * sum(right) / 48 == pytest.approx(result["exit/accuracy"])
    command("task=predict", f"run={home}", f"input={tmp_path / 'in.npy'}", "exit.max_loss=null")
    rows = json.loads((home / "predictions.json").read_text())
    frames_TBCHW = torch.from_numpy(counts_NTCHW.astype(np.float32)).transpose(0, 1) / 255 / 0.0157
    with torch.no_grad():
        expected_BC = tl.load_student(home)(frames_TBCHW).mean(0).softmax(-1)
    found_BC = torch.tensor([list(row["probabilities"].values()) for row in rows])
    torch.testing.assert_close(found_BC, expected_BC, rtol=1e-4, atol=1e-5)


def test_what_is_no_recording_of_this_kind_is_refused(home: Path, counts_NTCHW: Any, tmp_path: Path) -> None:
    card = json.loads((home / "student.json").read_text())
    for array in (counts_NTCHW[:, :2], counts_NTCHW[0], counts_NTCHW.astype(np.float32)):
        np.save(tmp_path / "other.npy", array)
        with pytest.raises(UsageError, match=r"numbers of events, uint8 \[N, 3, 2, 8, 8\]"):
            next(batches(tmp_path / "other.npy", card))
    with pytest.raises(UsageError, match="sees recordings of 3 event frames"):
        next(batches(tmp_path, card))


@pytest.mark.parametrize("form", ["pt2", "nir", "onnx"])
def test_a_student_of_recordings_is_exported_and_proved(
    command: Command, home: Path, form: str, tmp_path: Path
) -> None:
    pytest.importorskip({"pt2": "torch", "nir": "nir", "onnx": "onnxscript"}[form])
    result = command("task=export", f"run={home}", f"format={form}", f"output={tmp_path}", "export.images=20")
    assert result[f"student.{form}/largest_difference"] < 1e-4
    card = json.loads((tmp_path / f"student.{form}.json").read_text())
    assert card["input"]["images"] == ([] if form == "nir" else [3]) + ["batch", 2, 8, 8]
    assert card["proof"]["images"] == 20
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(tmp_path / "student.onnx"))
        frames_TBCHW = torch.rand(3, 1, 2, 8, 8)  # another batch than any that was traced
        (logits_TBC,) = session.run(["logits"], {"images": frames_TBCHW.numpy()})
        with torch.no_grad():
            expected_TBC = tl.load_student(home)(frames_TBCHW)
        torch.testing.assert_close(torch.from_numpy(np.asarray(logits_TBC)), expected_TBC, rtol=1e-4, atol=1e-5)
