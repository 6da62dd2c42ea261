"""`task=init`: measure a folder of images and write an experiment that fits it."""

import logging
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml
from PIL import Image
from torch import Tensor

from tser_lightning.atomic_io import write_text
from tser_lightning.config.run import Run
from tser_lightning.data import ImageFolder
from tser_lightning.data.folder import as_seen
from tser_lightning.data.folder_index import class_folders
from tser_lightning.errors import UsageError

log = logging.getLogger("tser_lightning")

SIDES = (8, 16, 28, 32, 48, 64, 96, 128, 160, 224)
LOOKED_AT = 500  # images that sizes, colours, mean and standard deviation are taken from, evenly spread
SMALL = 32  # up to this side the small network learns in minutes on a processor
COARSE_STEM = 64  # above this side the first convolution has a stride and a pool


def init(run: Run) -> dict[str, Any]:
    """Write `experiments/NAME.yaml` for a folder of images, and say how to run it.

    Returns:
        What was found: classes, shape, mean, std, and the file.

    Raises:
        UsageError: Another kind of data, a folder without images, or a file that is there already.
    """
    settings, name = run.config["data"], run.config["init"]["name"]
    if run.choices["data"] != "image_folder":
        raise UsageError(
            what=f"task=init does not look at data={run.choices['data']}",
            why="it measures folders of images; the other sets say of themselves what they are",
            fix="task=init data=image_folder data.path=DIR",
        )
    file = Path("experiments", f"{name}.yaml")
    if file.exists() and not run.config["force"]:
        raise UsageError(
            f"{file} is there already", "it may hold changes of yours", f"init.name={name}_2, or force=true"
        )
    found = look_at(Path(settings["path"]))
    recipe = recipe_for(found)
    write_text(file, _text(name, settings["path"], found, recipe))
    log.info("%d classes, %d images of %s for training", found["num_classes"], found["images"], found["shape"])
    log.info("%s is written; python -m tser_lightning experiment=%s", file, shlex.quote(name))
    return {"file": str(file), **found}


def look_at(path: Path) -> dict[str, Any]:
    """Measure a folder: classes, shape, mean and standard deviation of the training images.

    Args:
        path: With `train/CLASS/*` and `val/CLASS/*`.
    """
    if not os.path.isdir(path / "train"):
        raise UsageError(f"there is no {path / 'train'}", "images lie in train/CLASS/ and val/CLASS/", "data.path=DIR")
    classes = len(class_folders(path / "train"))
    probe = _folder(path, classes, [3, 8, 8])
    labels = probe.labels("train")
    looked_at = torch.linspace(0, len(labels) - 1, min(LOOKED_AT, len(labels))).long()
    pictures = [_seen(str(probe.source("train", int(index)))) for index in looked_at]
    side = max(each for each in SIDES if each <= max(SIDES[0], median(size for size, _ in pictures)))
    shape = [1 if all(grey for _, grey in pictures) else 3, side, side]
    pixels = _folder(path, classes, shape).read("train", looked_at, None).double() / 255
    return {
        "num_classes": classes,
        "images": len(labels),
        "shape": shape,
        "mean": _rounded(pixels.mean((0, 2, 3))),
        "std": _rounded(pixels.std((0, 2, 3), correction=0).clamp(min=1e-3)),
    }


def _folder(path: Path, classes: int, shape: list[int]) -> ImageFolder:
    zeros, ones = [0.0] * shape[0], [1.0] * shape[0]
    return ImageFolder(path, num_classes=classes, shape=shape, mean=zeros, std=ones, validation=0.0)


def _seen(file: str) -> tuple[int, bool]:
    """Give the shorter side of a picture in pixels, and whether it is grey."""
    with Image.open(file) as image:
        seen = as_seen(image)
        small = seen.convert("RGB").resize((16, 16))
    red, green, blue = small.split()
    return min(seen.size), red.tobytes() == green.tobytes() == blue.tobytes()


def _rounded(values_C: Tensor) -> list[float]:
    return [round(float(value), 4) for value in values_C]


def recipe_for(found: Mapping[str, Any]) -> dict[str, Any]:
    """Choose networks and training for images of a size, as an experiment's file has them."""
    side, batch_size = found["shape"][1], max(8, min(128, found["images"] // 16))
    if side <= SMALL:
        choices = [
            {"override /teacher": "cnn_small"},
            {"override /student": "cnn_small"},
            {"override /optim": "adamw"},
            {"override /schedule": "one_cycle"},
        ]
        return {
            "defaults": [{"override /data": "image_folder"}, *choices],
            "data": {"batch_size": min(64, batch_size)},
            "optim": {"lr": 0.008},
            "trainer": {"epochs": 20},
            "teacher": {"training": {"epochs": 20}},
        }
    stem = {} if side <= COARSE_STEM else {"stem": "imagenet"}
    return {
        "defaults": [
            {"override /data": "image_folder"},
            {"override /teacher": "resnet34"},
            {"override /student": "resnet18"},
        ],
        "data": {"batch_size": batch_size},
        "trainer": {"epochs": 100},
        "student": stem,
        "teacher": {**stem, "training": {"epochs": 100}},
    }


def _text(name: str, path: str, found: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    measured = {key: found[key] for key in ("num_classes", "shape", "mean", "std")}
    content = {**recipe, "data": {"path": path, **measured, **recipe["data"]}}
    body = yaml.safe_dump({key: value for key, value in content.items() if value}, sort_keys=False)
    return f"""# @package _global_
# Images of {path}: written by task=init, to be changed.
#
# Reproduces:  nothing; networks and training are a first try for images of this size.
# Run:         python -m tser_lightning experiment={name}
#              python -m tser_lightning -m experiment={name} loss=ce,vanilla_kd,tser seed=1,2,3
# Measured:    mean and std over up to {LOOKED_AT} training images, resized as in evaluation; no accuracy yet.
{body}"""
