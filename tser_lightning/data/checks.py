"""What can be wrong with a data set.

Nothing here imports torch, so that a mistake in a command is answered at once.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from tser_lightning.data.folder_index import class_folders, empty_class, holds_images
from tser_lightning.mistake import Mistake

_FORM = "train_images, test_images [N,H,W,C] uint8 and train_labels, test_labels [N] int64"


def check_data(settings: Mapping[str, Any]) -> None:
    """Check the config of one of this package's sets against its files; any other set checks itself when it is made.

    Args:
        settings: The data group of a config as plain containers.

    Raises:
        Mistake: A file is missing, damaged, or does not fit `num_classes` and `shape`.
    """
    num_classes, shape = settings["num_classes"], settings["shape"]
    if settings.get("_target_") == "tser_lightning.data.Digits":
        check_fit("digits", 10, (1, 8, 8), num_classes, shape)
    elif settings.get("_target_") == "tser_lightning.data.Streamed":
        if "://" not in str(settings["path"]):
            check_chunks(Path(settings["path"]))
    elif "recordings" in settings:
        steps, (channels, height, width) = settings["timesteps"], shape
        file = frames_path(settings["root"], settings["recordings"], settings["split"], steps, shape)
        check_prepared(file, num_classes, (steps * channels, height, width), settings["recordings"])
    elif "root" in settings:
        check_prepared(prepared_path(settings["root"], settings["name"]), num_classes, shape, settings["name"])
    elif str(settings.get("path", "")).endswith(".safetensors"):
        check_prepared(Path(settings["path"]), num_classes, shape)
    elif "path" in settings:
        check_folder(Path(settings["path"]), num_classes)


def prepared_path(root: str | Path, name: str) -> Path:
    """Name the prepared file of a set."""
    return Path(root) / f"{name}.safetensors"


def frames_path(root: str | Path, recordings: str, split: str, timesteps: int, shape: Sequence[int]) -> Path:
    """Name the prepared file of event recordings, which says all that its frames depend on."""
    return prepared_path(root, f"{recordings}-{split}-t{timesteps}-{shape[1]}x{shape[2]}")


def check_fit(name: str, classes: int, found_shape: Sequence[int], num_classes: int, shape: Sequence[int]) -> None:
    """Compare what a set holds with what its settings say.

    Raises:
        Mistake: The number of classes or the shape (C, H, W) of an image differ.
    """
    if classes != num_classes:
        raise Mistake(
            f"data.num_classes={num_classes}, but {name} has {classes} classes",
            "teacher and student get as many outputs as data.num_classes says",
            f"data.num_classes={classes}",
        )
    if list(found_shape) != list(shape):
        raise Mistake(
            f"data.shape={list(shape)}, but the images of {name} are {list(found_shape)}",
            "teacher and student are built for data.shape, which is [C, H, W]",
            f"data.shape={list(found_shape)}".replace(" ", ""),
        )


def check_prepared(path: Path, num_classes: int, shape: Sequence[int], download: str | None = None) -> None:
    """Check a prepared file: that it is whole, has the four tensors in their form, and fits the settings.

    Args:
        path: The file.
        num_classes: What the settings say.
        shape: (C, H, W), what the settings say.
        download: Name of the set in `task=prepare`, which can make the file; None if only the user can.

    Raises:
        Mistake: It is not so.
    """
    make = f"a file with {_FORM}" if download is None else f"python -m tser_lightning task=prepare data={download}"
    if download is not None and path.parent != Path("data"):
        make += f" data.root={path.parent}"
    if not path.is_file():
        raise Mistake(f"there is no prepared data set {path}", "training reads this one file", make)
    try:
        classes, found_shape = _read_prepared(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise Mistake(
            f"{path} is damaged or not in the prepared form: {error}", f"it must hold {_FORM}", make
        ) from error
    check_fit(str(path), classes, found_shape, num_classes, shape)


def _read_prepared(path: Path) -> tuple[int, tuple[int, int, int]]:
    with safe_open(path, framework="np") as file:
        shapes = {part: _images_shape(file, part) for part in ("train", "test")}
        labels = {part: _labels(file, part, shapes[part][0]) for part in ("train", "test")}
        names = (file.metadata() or {}).get("classes")
    if shapes["train"][1:] != shapes["test"][1:]:
        raise ValueError(f"train images are {shapes['train'][1:]}, test images {shapes['test'][1:]}")
    classes = len(json.loads(names)) if names else int(labels["train"].max()) + 1
    for part, values in labels.items():
        if values.min() < 0 or values.max() >= classes:
            raise ValueError(f"{part}_labels go from {values.min()} to {values.max()}, train has {classes} classes")
    _, height, width, channels = shapes["train"]
    return classes, (channels, height, width)


def _images_shape(file: Any, part: str) -> tuple[int, ...]:
    images = file.get_slice(f"{part}_images")
    shape = tuple(images.get_shape())
    if images.get_dtype() != "U8" or len(shape) != 4 or 0 in shape:
        raise ValueError(f"{part}_images is {images.get_dtype()} {list(shape)}")
    return shape


def _labels(file: Any, part: str, images: int) -> npt.NDArray[np.int64]:
    labels: npt.NDArray[np.int64] = file.get_tensor(f"{part}_labels")
    if labels.dtype != np.int64 or labels.shape != (images,):
        raise ValueError(f"{part}_labels is {labels.dtype} {list(labels.shape)} for {images} images")
    return labels


def check_folder(path: Path, num_classes: int) -> None:
    """Check the layout path/train/CLASS/*, path/val/CLASS/*.

    Raises:
        Mistake: A folder is missing, or the classes of train, of val and of the settings differ.
    """
    classes: dict[str, list[str]] = {}
    for part in ("train", "val"):
        if not (path / part).is_dir():
            raise Mistake(
                f"there is no folder {path / part}",
                "images are read from PATH/train/CLASS/* and PATH/val/CLASS/*",
                "data.path=PATH, the folder that holds train/ and val/",
            )
        classes[part] = class_folders(path / part)
        if not classes[part]:
            raise Mistake(
                f"{path / part} holds no folders",
                "images are read from PATH/train/CLASS/* and PATH/val/CLASS/*, and a class is a folder",
                "the images of each class in a folder of their own",
            )
    if classes["train"] != classes["val"]:
        odd = sorted(set(classes["train"]) ^ set(classes["val"]))
        here, there = ("train", "val") if odd[0] in classes["train"] else ("val", "train")
        raise Mistake(
            f"{path}/train and {path}/val have different classes, e.g. {odd[0]}, which {there} lacks",
            "a class is a folder, and its number is its place among the sorted names",
            f"a folder {path}/{there}/{odd[0]} with images, or none in {here}; {len(odd)} differ",
        )
    for part, names in classes.items():
        for name in names:
            if not holds_images(path / part / name):
                raise empty_class(path, part, name, len(names))
    if len(classes["train"]) != num_classes:
        raise Mistake(
            f"data.num_classes={num_classes}, but {path}/train has {len(classes['train'])} class folders",
            "teacher and student get as many outputs as data.num_classes says",
            f"data.num_classes={len(classes['train'])}",
        )


def check_chunks(path: Path, folders: Sequence[str] = ("train", "val")) -> None:
    """Check that folders hold litdata's chunks of the one form that is read: {"image": bytes, "label": int}.

    Raises:
        Mistake: There are none, or of another form, which may run code when it is read.
    """
    for folder in folders:
        index = path / folder / "index.json"
        try:
            config = json.loads(index.read_text(encoding="utf-8"))["config"]
            types, forms = config["types"], sorted(config["data_format"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Mistake(
                f"{index} cannot be read: {getattr(error, 'strerror', None) or str(error)[:80]}",
                "it is the list of chunks that litdata.optimize writes",
                "data.path=PATH, the folder that holds train/ and val/",
            ) from error
        if types != {"image": "bytes", "label": "int"} or forms != ["bytes", "int"]:
            raise Mistake(
                f"{index} lists samples of the form {str(types)[:80]} {str(forms)[:40]}",
                "images are read as the bytes of an image file and labels as whole numbers, and nothing else is",
                'samples {"image": bytes, "label": int} in litdata.optimize',
            )


def resize_for(side: int) -> int:
    """Length of the shorter side that evaluation resizes to before it cuts out the centre: 256 for 224 (ImageNet)."""
    return round(side / 0.875)
