"""Checks of data sets: files, forms, and whether they fit their settings.

Nothing here imports torch, so that a mistake in a command is answered at once.
"""

import difflib
import itertools
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from tser_lightning.data.array_checks import FORM, NAMES, Stored, WrongArrays, check_arrays
from tser_lightning.data.array_files import check_kind, rewriting
from tser_lightning.data.folder_index import class_folders, empty_class, holds_images
from tser_lightning.errors import UsageError

FACTS = ("num_classes", "shape", "mean", "std")  # what a prepared file says of itself

_DTYPES = {
    **{
        f"{letter}{bits}": f"{kind}{bits}" for letter, kind in (("U", "uint"), ("I", "int")) for bits in (8, 16, 32, 64)
    },
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BOOL": "bool",
}


def check_data(settings: Mapping[str, Any]) -> None:
    """Check the config of one of this package's sets against its files; any other set checks itself when it is made.

    Args:
        settings: The data group of a config as plain containers.

    Raises:
        UsageError: A file is missing, damaged, or does not fit `num_classes` and `shape`.

    Examples:
        >>> check_data({"_target_": "tser_lightning.data.Digits", "num_classes": 10, "shape": [1, 8, 8]})
        >>> check_data({"_target_": "tser_lightning.data.Digits", "num_classes": 11, "shape": [1, 8, 8]})
        Traceback (most recent call last):
        tser_lightning.errors.UsageError: num_classes=11, but digits has 10 classes
          why: teacher and student get as many outputs as `num_classes` says
          try: num_classes=10
    """
    num_classes, shape = settings["num_classes"], settings["shape"]
    target = str(settings.get("_target_", ""))
    if target == "tser_lightning.data.Digits":
        check_fit("digits", 10, (1, 8, 8), num_classes, shape)
    elif target == "tser_lightning.data.Streamed":
        if "://" not in str(settings["path"]):
            check_chunks(Path(settings["path"]))
    elif "recordings" in settings:
        steps, (channels, height, width) = settings["timesteps"], shape
        file = frames_path(settings["root"], settings["recordings"], settings["split"], steps, shape)
        check_prepared(file, num_classes, (steps * channels, height, width), settings["recordings"])
    elif "root" in settings:
        check_prepared(prepared_path(settings["root"], settings["name"]), num_classes, shape, settings["name"])
    elif "path" in settings:
        path = Path(settings["path"])
        if target.endswith(".Prepared") or (not target and path.suffix == ".safetensors"):
            check_prepared(path, num_classes, shape)
        else:
            check_folder(path, num_classes)
    check_channels(shape, settings.get("mean"), settings.get("std"))


def prepared_path(root: str | Path, name: str) -> Path:
    """Give the path of the prepared file of a set."""
    return Path(root) / f"{name}.safetensors"


def frames_path(root: str | Path, recordings: str, split: str, timesteps: int, shape: Sequence[int]) -> Path:
    """Give the path of the prepared file of event recordings, whose name holds all that its frames depend on."""
    return prepared_path(root, f"{recordings}-{split}-t{timesteps}-{shape[1]}x{shape[2]}")


def check_channels(shape: Sequence[int], mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Compare the normalisation with the channels of an image.

    Raises:
        UsageError: There is not one mean and one std for each.
    """
    given = {"mean": mean, "std": std}
    wrong = {key: list(values) for key, values in given.items() if values is not None and len(values) != shape[0]}
    if wrong:
        what = ", ".join(f"{key}={values}".replace(" ", "") for key, values in wrong.items())
        each = {key: round(sum(values) / max(len(values), 1), 4) for key, values in wrong.items()}
        raise UsageError(
            f"{what}: images of shape={list(shape)} have {shape[0]} channel{'s' * (shape[0] != 1)}",
            "each channel has its mean and its std, over the training images in [0, 1]",
            " ".join(f"{key}=[{','.join([str(value)] * shape[0])}]" for key, value in each.items()),
        )


def check_fit(
    name: str,
    classes: int,
    found_shape: Sequence[int],
    num_classes: int,
    shape: Sequence[int],
    normalisation: Callable[[], str] = str,
) -> None:
    """Compare what a set holds with what its settings say.

    Args:
        name: Name of the set.
        classes: Number of classes that it holds.
        found_shape: (C, H, W) that it holds.
        num_classes: That the settings say.
        shape: That the settings say.
        normalisation: Gives the settings of mean and std that fit, for other channels than the settings say.

    Raises:
        UsageError: The number of classes or the shape (C, H, W) of an image differ.
    """
    if classes != num_classes:
        raise UsageError(
            f"num_classes={num_classes}, but {name} has {classes} classes",
            "teacher and student get as many outputs as `num_classes` says",
            f"num_classes={classes}",
        )
    if list(found_shape) != list(shape):
        raise UsageError(
            f"shape={list(shape)}, but the images of {name} are {list(found_shape)}",
            "teacher and student are built for `shape`, which is [C, H, W]",
            f"shape={list(found_shape)}".replace(" ", "")
            + (f" {normalisation()}" if found_shape[0] != shape[0] else ""),
        )


def check_prepared(path: Path, num_classes: int, shape: Sequence[int], download: str | None = None) -> None:
    """Check a prepared file: that it is whole, has the four tensors in their form, and fits the settings.

    Args:
        path: The prepared file.
        num_classes: What the settings say.
        shape: (C, H, W), what the settings say.
        download: Name of the set in `task=prepare`, which can make the file; None if only the user can.

    Raises:
        UsageError: It is not so.
    """
    make = f"python -m tser_lightning task=prepare data={download}" if download else _writing(path)
    if download and path.parent != Path("data"):
        make = f"python -m tser_lightning task=prepare data={download} data.root={shlex.quote(str(path.parent))}"
    if not download:
        check_kind(path)
    if not path.is_file():
        raise UsageError(f"there is no prepared data set {path}", "training reads this one file", make)
    try:
        with safe_open(path, framework="np") as file:
            names = (file.metadata() or {}).get("classes")
            classes = json.loads(names) if names else None
            classes, found_shape = _checked(file, path, classes, shape, None if download is None else make)
            check_fit(str(path), classes, found_shape, num_classes, shape, lambda: _typed(_normalisation(file)))
    except UsageError:
        raise
    except (SafetensorError, OSError, ValueError) as error:
        raise UsageError(f"{path} is damaged: {error}", f"it must hold {FORM}", make) from error


def is_prepared(settings: Mapping[str, Any]) -> bool:
    """Whether the settings of a set are those of a prepared file of the user's, and name it."""
    return settings.get("_target_") == "tser_lightning.data.Prepared" and settings.get("path") not in (None, "???")


def prepared_facts(path: Path) -> dict[str, Any]:
    """Read from a prepared file the settings that it determines: `FACTS`.

    Args:
        path: The prepared file.

    Raises:
        UsageError: It is missing, damaged, or not in the prepared form.
    """
    check_kind(path)
    if not path.is_file():
        raise UsageError(f"there is no prepared data set {path}", "training reads this one file", _writing(path))
    try:
        with safe_open(path, framework="np") as file:
            names = (file.metadata() or {}).get("classes")
            classes, shape = _checked(file, path, json.loads(names) if names else None, None, None)
            return {"num_classes": classes, "shape": list(shape), **_normalisation(file)}
    except UsageError:
        raise
    except (SafetensorError, OSError, ValueError) as error:
        raise UsageError(f"{path} is damaged: {error}", f"it must hold {FORM}", _writing(path)) from error


def _checked(
    file: Any, path: Path, names: Sequence[str] | None, shape: Sequence[int] | None, make: str | None
) -> tuple[int, tuple[int, int, int]]:
    try:
        return check_arrays({name: _stored(file, name) for name in file.keys()}, names, shape)  # noqa: SIM118
    except WrongArrays as error:
        fix = make or error.fix
        if make is None and error.typed:
            fix = rewriting(path, f"load_file({str(path)!r})", error.fix, names)
        raise UsageError(f"{path} is not in the prepared form: {error.what}", error.why, fix) from error


def _stored(file: Any, name: str) -> Stored:
    tensor = file.get_slice(name)
    dtype = tensor.get_dtype()
    if dtype not in _DTYPES and name in NAMES:
        raise ValueError(f"{name} is {dtype}")
    return Stored(
        _DTYPES.get(dtype, dtype), tuple(tensor.get_shape()), lambda: file.get_tensor(name), f"arrays[{name!r}]"
    )


def _normalisation(file: Any) -> dict[str, list[float]]:
    """Give mean and std of a file's training images, of some thousands where there are more."""
    images = file.get_slice("train_images")
    count, *sizes = images.get_shape()
    pixels = images[: min(count, max(1, 10**8 // int(np.prod(sizes))))] / np.float32(255)
    values = {"mean": pixels.mean((0, 1, 2), dtype=float), "std": pixels.std((0, 1, 2), dtype=float).clip(min=1e-3)}
    return {key: [round(float(each), 4) for each in found] for key, found in values.items()}


def _typed(normalisation: Mapping[str, Sequence[float]]) -> str:
    return " ".join(f"{key}=[{','.join(f'{each:.4f}' for each in found)}]" for key, found in normalisation.items())


def _writing(path: Path) -> str:
    near = [file for file in sorted(path.parent.glob("*.*")) if file.is_file() and file.name != path.name]
    same = [file for file in near if file.stem == path.stem]
    close = difflib.get_close_matches(path.stem, [file.stem for file in near if file.suffix == ".safetensors"], n=1)
    if same or close:
        return shlex.quote(f"path={same[0] if same else path.with_name(f'{close[0]}.safetensors')}")
    path = path.with_suffix(".safetensors")
    return f"write_prepared({str(path)!r}, arrays) in Python, with arrays of {FORM}"


_NAMES_OF_PARTS = {
    "train": ("train", "training", "train_images"),
    "val": ("val", "valid", "validation", "test", "testing", "eval"),
}


def check_folder(path: Path, num_classes: int) -> None:
    """Check the layout path/train/CLASS/*, path/val/CLASS/*.

    Raises:
        UsageError: A folder is missing, or the classes of train, of val and of the settings differ.
    """
    if path.is_file():
        check_kind(path)
        raise UsageError(
            f"path={path} is a file",
            "images are read from PATH/train/CLASS/* and PATH/val/CLASS/*; `Prepared` reads one file of arrays",
            f"`Prepared` {shlex.quote(f'path={path}')}",
        )
    classes: dict[str, list[str]] = {}
    for part in ("train", "val"):
        if not (path / part).is_dir():
            raise _no_folder(path, part)
        classes[part] = class_folders(path / part)
        if not classes[part]:
            raise UsageError(
                f"{path / part} holds no folders",
                "images are read from PATH/train/CLASS/* and PATH/val/CLASS/*, and a class is a folder",
                "the images of each class in a folder of their own",
            )
    if classes["train"] != classes["val"]:
        odd = sorted(set(classes["train"]) ^ set(classes["val"]))
        here, there = ("train", "val") if odd[0] in classes["train"] else ("val", "train")
        raise UsageError(
            f"{path}/train and {path}/val have different classes, e.g. {odd[0]}, which {there} lacks",
            "a class is a folder, and its number is its place among the sorted names",
            f"a folder {path}/{there}/{odd[0]} with images, or none in {here}; {len(odd)} differ",
        )
    for part, names in classes.items():
        for name in names:
            if not holds_images(path / part / name):
                raise empty_class(path, part, name, len(names))
    if len(classes["train"]) != num_classes:
        raise UsageError(
            f"num_classes={num_classes}, but {path}/train has {len(classes['train'])} class folders",
            "teacher and student get as many outputs as `num_classes` says",
            f"num_classes={len(classes['train'])}",
        )


def _no_folder(path: Path, part: str) -> UsageError:
    what, why = f"there is no folder {path / part}", "images are read from PATH/train/CLASS/* and PATH/val/CLASS/*"
    if (path.parent / "train").is_dir() and path.name.lower() in itertools.chain(*_NAMES_OF_PARTS.values()):
        return UsageError(what, why, shlex.quote(f"path={path.parent}"))
    folders = sorted(found for found in path.iterdir() if found.is_dir()) if path.is_dir() else []
    near = next((found for found in folders if found.name.lower() in _NAMES_OF_PARTS[part]), None)
    if near is not None:
        return UsageError(what, f"{why}; {path} has {near.name}", shlex.join(["mv", str(near), str(path / part)]))
    return UsageError(what, why, "path=PATH, the folder that holds train/ and val/")


def check_chunks(path: Path, folders: Sequence[str] = ("train", "val")) -> None:
    """Check that folders hold litdata's chunks of the one form that is read: {"image": bytes, "label": int}.

    Raises:
        UsageError: There are none, or of another form, which may run code when it is read.
    """
    for folder in folders:
        index = path / folder / "index.json"
        try:
            config = json.loads(index.read_text(encoding="utf-8"))["config"]
            types, forms = config["types"], sorted(config["data_format"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{index} cannot be read: {getattr(error, 'strerror', None) or str(error)[:80]}",
                "it is the list of chunks that litdata.optimize writes",
                "path=PATH, the folder that holds train/ and val/",
            ) from error
        if types != {"image": "bytes", "label": "int"} or forms != ["bytes", "int"]:
            raise UsageError(
                f"{index} lists samples of the form {str(types)[:80]} {str(forms)[:40]}",
                "images are read as the bytes of an image file and labels as whole numbers, and nothing else is",
                'samples {"image": bytes, "label": int} in litdata.optimize',
            )


def resize_for(side: int) -> int:
    """Compute the shorter side that evaluation resizes to before it cuts out the centre: 256 for 224 (ImageNet)."""
    return round(side / 0.875)
