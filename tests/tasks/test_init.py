"""task=init: an experiment from a folder of images."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tser_lightning.cli.main import main
from tser_lightning.tasks.init import recipe_for


def write_images(folder: Path, side: int, colours: int, classes: int = 3, each: int = 12) -> np.ndarray:
    """Write noise, and give all training pixels [N, side, side, colours] as numbers from 0 to 1."""
    rng = np.random.default_rng(0)
    written = []
    for part, count in (("train", each), ("val", 4)):
        for label in range(classes):
            place = folder / part / f"class{label}"
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 200, (side, side, colours), dtype=np.uint8)
                Image.fromarray(pixels.squeeze()).save(place / f"{number}.png")
                if part == "train":
                    written.append(pixels / 255)
    return np.stack(written)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("side", "colours", "shown"), [(28, 1, 28), (40, 3, 32)])
def test_it_writes_what_it_measures_and_that_composes(folder: Path, side: int, colours: int, shown: int) -> None:
    pixels = write_images(folder / "images", side, colours)
    assert main(["task=init", "data=image_folder", "data.path=images"]) == 0
    written = yaml.safe_load((folder / "experiments" / "mine.yaml").read_text())
    assert written["data"]["num_classes"] == 3
    assert written["data"]["shape"] == [colours, shown, shown]
    assert {"override /student": "cnn_small"} in written["defaults"]
    assert written["data"]["mean"] == pytest.approx(pixels.mean((0, 1, 2)), abs=0.02)
    assert main(["experiment=mine", "debug=step", "loss=ce", "teacher=none", "logging.wandb.mode=disabled"]) == 0
    assert list(folder.glob("runs/mine-*/result.json"))


def test_mean_and_deviation_are_those_of_the_pixels_where_nothing_is_resized(folder: Path) -> None:
    pixels = write_images(folder / "images", 28, 3)
    assert main(["task=init", "data=image_folder", "data.path=images", "init.name=grey"]) == 0
    written = yaml.safe_load((folder / "experiments" / "grey.yaml").read_text())["data"]
    # evaluation resizes 28 to 32 and cuts out 28: close to, and not quite, the pixels themselves
    assert written["mean"] == pytest.approx(pixels.mean((0, 1, 2)), abs=0.01)
    assert all(0.6 < mine / own <= 1.0 for mine, own in zip(written["std"], pixels.std((0, 1, 2)), strict=True))


def test_large_images_get_a_larger_network_with_a_coarse_stem() -> None:
    recipe = recipe_for({"images": 1000, "shape": [3, 96, 96]})
    assert {"override /student": "resnet18"} in recipe["defaults"]
    assert recipe["student"] == {"stem": "imagenet"}
    assert recipe["data"]["batch_size"] == 62  # a sixteenth of the images


def test_a_file_that_is_there_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(folder / "images", 8, 1)
    assert main(["task=init", "data=image_folder", "data.path=images"]) == 0
    before = (folder / "experiments" / "mine.yaml").read_text()
    assert main(["task=init", "data=image_folder", "data.path=images"]) == 2
    assert "force=true" in capsys.readouterr().err
    assert (folder / "experiments" / "mine.yaml").read_text() == before


def test_other_data_and_other_folders_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["task=init", "data=cifar10"]) == 2
    assert "task=init data=image_folder data.path=DIR" in capsys.readouterr().err
    (folder / "empty").mkdir()
    assert main(["task=init", "data=image_folder", "data.path=empty"]) == 2
    assert "train" in capsys.readouterr().err
