"""Checks of the four arrays of a set, with the Python that converts them where they are wrong. Imports no torch."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tser_lightning.errors import UsageError

FORM = "train_images, test_images [N,H,W,C] uint8 and train_labels, test_labels [N] int64 from 0"
PARTS, KINDS = ("train", "test"), ("images", "labels")
NAMES = tuple(f"{part}_{kind}" for part in PARTS for kind in KINDS)
_CHANNELS = 4  # more than these in an image that is no wider is not believed
_WORDS = {"train": ("training", "train"), "test": ("testing", "test", "validation", "valid", "val")}
_MEANINGS = {
    "images": ("images", "image", "imgs", "img", "x", "data", "inputs"),
    "labels": ("labels", "label", "targets", "target", "y"),
}


@dataclass(frozen=True)
class Stored:
    """An array by type and shape, whose values are read only when asked for.

    Attributes:
        dtype: Its name in NumPy.
        shape: Its sizes.
        values: Reads it.
        source: Python that gives it as an array of NumPy, in terms of `arrays`.
    """

    dtype: str
    shape: tuple[int, ...]
    values: Callable[[], npt.NDArray[Any]]
    source: str


class WrongArrays(UsageError):
    """Arrays that no training can use as they are.

    Args:
        what: What is wrong with the arrays.
        fix: Python that makes `arrays` right if `typed`, else what to do.
        typed: Which of them.
        why: Why that is needed.
    """

    def __init__(self, what: str, fix: str, typed: bool = False, why: str = f"a set holds {FORM}") -> None:
        super().__init__(what, why, fix)
        self.typed = typed


class _Changes:
    """Faults that can be mended, and the Python expressions that mend them."""

    def __init__(self, arrays: Mapping[str, Stored], renamed: str | None) -> None:
        self._expressions = {name: arrays[name].source for name in NAMES}
        self._faults: dict[str, list[str]] = {renamed: []} if renamed else {}
        self._changed = set(NAMES) if renamed else set[str]()

    def add(self, name: str, fault: str, template: str) -> None:
        self._faults.setdefault(fault, []).append(name)
        self._expressions[name] = template.format(self._expressions[name])
        self._changed.add(name)

    def expression(self, name: str) -> str:
        return self._expressions[name]

    def refuse(self) -> None:
        if not self._faults:
            return
        what = "; ".join(f"{', '.join(names)}: {fault}" if names else fault for fault, names in self._faults.items())
        entries = [f"{name!r}: {self._expressions[name]}" for name in NAMES if name in self._changed]
        if len(entries) < len(NAMES):
            entries.insert(0, "**arrays")
        raise WrongArrays(what, f"arrays = {{{', '.join(entries)}}}", typed=True)


def check_arrays(
    arrays: Mapping[str, Stored], names: Sequence[str] | None = None, shape: Sequence[int] | None = None
) -> tuple[int, tuple[int, int, int]]:
    """Check the arrays of a set; labels are read, images only where they are wrong.

    Args:
        arrays: All arrays that were found, by name.
        names: Of the classes; they make room for classes that have no images.
        shape: (C, H, W) that is expected, where it is known.

    Returns:
        The number of classes and (C, H, W) of an image.

    Raises:
        WrongArrays: They are not as they must be.
    """
    found, renamed = _named(arrays)
    changes = _Changes(found, renamed)
    labels = {part: _flat_labels(f"{part}_labels", found, changes) for part in PARTS}
    shapes = {part: _axes(f"{part}_images", found, len(labels[part]), shape, changes) for part in PARTS}
    _pixels(found, changes)
    for part in PARTS:
        if shapes[part][0] != len(labels[part]):
            raise WrongArrays(
                f"{part}_images holds {shapes[part][0]} images, {part}_labels {len(labels[part])} labels",
                "one label for each image, in the same order",
            )
    train, test = (list(shapes[part][1:]) for part in PARTS)
    if train != test:
        raise WrongArrays(f"train images are [H,W,C] {train}, test images {test}", "all images of one size")
    classes = _numbered(labels, names, changes)
    changes.refuse()
    height, width, channels = train
    return classes, (channels, height, width)


def _named(arrays: Mapping[str, Stored]) -> tuple[dict[str, Stored], str | None]:
    missing = [name for name in NAMES if name not in arrays]
    if not missing:
        return {name: arrays[name] for name in NAMES}, None
    there = ", ".join(sorted(map(str, arrays))[:12]) or "none"
    what = f"there is no {', '.join(missing)} among the arrays ({there})"
    meant = {name: _meant(name, arrays) for name in NAMES}
    if all(meant.values()):
        return {name: arrays[other] for name, other in meant.items() if other}, what
    images, labels = meant["train_images"], meant["train_labels"]
    if images and labels and not meant["test_images"] and not meant["test_labels"]:
        pairs = f"('images', {arrays[images].source}), ('labels', {arrays[labels].source})"
        raise WrongArrays(
            what,
            f"order = np.random.default_rng(0).permutation({arrays[labels].shape[0]}); cut = len(order) // 5; "
            "arrays = {f'{part}_{kind}': array[places] for part, places in (('train', order[cut:]), "
            f"('test', order[:cut])) for kind, array in ({pairs})}}",
            typed=True,
            why="the result of a run is its accuracy on test images; this makes a fifth of the training images them",
        )
    raise WrongArrays(what, "the four arrays under these names")


def _meant(name: str, arrays: Iterable[str]) -> str | None:
    """Find an array under another usual name: x_train, y_test, val_labels."""
    part, _, kind = name.partition("_")
    if name in arrays:
        return name
    for word in _WORDS[part]:
        for other in arrays:
            before, found, after = str(other).lower().partition(word)
            if found and re.sub(r"[\W_]", "", before + after) in _MEANINGS[kind]:
                return other
    return None


def _flat_labels(name: str, arrays: Mapping[str, Stored], changes: _Changes) -> npt.NDArray[Any]:
    """Read labels as [N]: int64, or text."""
    stored = arrays[name]
    values = stored.values()
    if 0 in values.shape or not values.shape:
        raise WrongArrays(
            f"{name} is {list(values.shape)}: it holds no labels", "images and labels in train and in test"
        )
    numbers = values.dtype.kind in "biuf"
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise WrongArrays(f"{name} holds NaN or infinity", "a class for every image, or those images left out")
    if values.ndim == 2 and 1 in values.shape:
        changes.add(name, f"{list(values.shape)} in place of [N]", "{}.reshape(-1)")
        values = values.reshape(-1)
    elif values.ndim == 2 and numbers and (values >= 0).all() and np.allclose(values.sum(1, dtype=float), 1, atol=1e-3):
        form = "one-hot" if (values.max(1) == 1).all() else "probabilities"
        changes.add(name, f"{form} {list(values.shape)} in place of [N]", "{}.argmax(1)")
        return np.asarray(values.argmax(1))
    elif values.ndim != 1:
        raise WrongArrays(f"{name} is {stored.dtype} {list(values.shape)}", "one class for each image, [N]")
    if not numbers:
        if values.dtype.kind in "US" or (values.dtype.kind == "O" and all(isinstance(each, str) for each in values)):
            return values
        raise WrongArrays(f"{name} is {stored.dtype}", "class numbers from 0, int64")
    if values.dtype.kind == "f" and (odd := values[values != np.round(values)]).size:
        raise WrongArrays(f"{name} holds {odd[0]:g}, which is no class", "class numbers from 0, int64")
    if stored.dtype != "int64":
        changes.add(name, f"{stored.dtype} in place of int64", "{}.astype('int64')")
    return values.astype(np.int64)


def _axes(
    name: str, arrays: Mapping[str, Stored], labels: int, wanted: Sequence[int] | None, changes: _Changes
) -> tuple[int, ...]:
    """Give the sizes of images as [N,H,W,C]."""
    shape = arrays[name].shape
    if 0 in shape:
        raise WrongArrays(f"{name} is {list(shape)}: it holds no images", "images and labels in train and in test")
    if len(shape) == 4 and shape[0] != labels == shape[3]:
        return _turned(name, shape, "[H,W,C,N]", (3, 0, 1, 2), changes)
    if len(shape) == 4 and _channels_first(shape, wanted):
        return _turned(name, shape, "[N,C,H,W]", (0, 2, 3, 1), changes)
    if len(shape) == 4:
        return shape
    if len(shape) == 3 and shape[0] != labels == shape[2]:
        changes.add(name, f"{list(shape)} is [H,W,N]", "{}.transpose(2, 0, 1)[..., None]")
        return shape[2], shape[0], shape[1], 1
    if len(shape) == 3:
        changes.add(name, f"{list(shape)} has no axis of channels", "{}[..., None]")
        return *shape, 1
    if len(shape) == 2:
        return _unrolled(name, shape, wanted, changes)
    raise WrongArrays(f"{name} is {list(shape)}", "images [N,H,W,C]")


def _turned(name: str, shape: tuple[int, ...], form: str, order: tuple[int, ...], changes: _Changes) -> tuple[int, ...]:
    changes.add(name, f"{list(shape)} is {form} in place of [N,H,W,C]", f"{{}}.transpose{order}")
    return tuple(shape[axis] for axis in order)


def _channels_first(shape: tuple[int, ...], wanted: Sequence[int] | None) -> bool:
    _, first, second, third = shape
    if wanted is not None and [first, second, third] == list(wanted) != [third, first, second]:
        return True
    # What would be 3 pixels high with tens of channels, or as many channels as it is wide, is the order of torch.
    return third > _CHANNELS and first != second and (first <= _CHANNELS or (second == third and first < second))


def _unrolled(name: str, shape: tuple[int, ...], wanted: Sequence[int] | None, changes: _Changes) -> tuple[int, ...]:
    count, pixels = shape
    side, coloured = math.isqrt(pixels), math.isqrt(pixels // 3)
    height, width = (side, side) if wanted is None or wanted[0] != 1 else (wanted[1], wanted[2])
    if height * width == pixels:
        changes.add(name, f"{list(shape)} has its pixels in one row", f"{{}}.reshape(-1, {height}, {width}, 1)")
        return count, height, width, 1
    if 3 * coloured**2 == pixels:
        planes = f"reshape(-1, 3, {coloured}, {coloured}).transpose(0, 2, 3, 1)"
        raise WrongArrays(
            f"{name} is {list(shape)}, its pixels in one row",
            f".{planes} if red, green and blue are a plane each (as in CIFAR's own files), else "
            f".reshape(-1, {coloured}, {coloured}, 3)",
        )
    raise WrongArrays(f"{name} is {list(shape)}", "images [N,H,W,C]")


def _pixels(arrays: Mapping[str, Stored], changes: _Changes) -> None:
    """Bring pixels to whole numbers from 0 to 255, those of both parts by the same scale."""
    wrong = {f"{part}_images": arrays[f"{part}_images"] for part in PARTS}
    wrong = {name: stored for name, stored in wrong.items() if stored.dtype != "uint8"}
    ends: list[float] = []
    whole = True
    for name, stored in wrong.items():
        values = stored.values()
        if values.dtype.kind not in "biuf":
            raise WrongArrays(f"{name} is {stored.dtype}", "pixels from 0 to 255, uint8")
        if values.dtype.kind == "f":
            if not np.isfinite(values).all():
                bad = ~np.isfinite(values).reshape(len(values), -1).all(1)
                raise WrongArrays(
                    f"{name} holds NaN or infinity, in {bad.sum()} images, the first {name}[{bad.argmax()}]",
                    "numbers there, or those images and their labels left out",
                )
            whole = whole and bool((values == np.round(values)).all())
        ends += [float(values.min()), float(values.max())]
    for name, stored in wrong.items():
        low, high = min(ends), max(ends)
        template = _to_bytes(low, high, whole, "float" in stored.dtype)
        changes.add(name, f"{stored.dtype} from {low:.4g} to {high:.4g} in place of uint8", template)


def _to_bytes(low: float, high: float, whole: bool, floats: bool) -> str:
    if low >= 0 and 16 < high <= 255 and (whole or high > 128):
        return "{}.round().astype('uint8')" if floats else "{}.astype('uint8')"
    if low >= 0:
        # Numbers of 10, 12 or 16 bits fill their range; others fill what they fill.
        low, high = 0.0, 1.0 if high <= 1 else float(2 ** int(high).bit_length() - 1) if whole and high > 255 else high
    elif low >= -1 and high <= 1:
        low, high = -1.0, 1.0
    scale = 255 / (high - low) if high > low else 1.0
    shifted = f"({{}} - {low!r})" if low else "{}"
    return f"({shifted} * {scale!r}).round().clip(0, 255).astype('uint8')"


def _numbered(labels: Mapping[str, npt.NDArray[Any]], names: Sequence[str] | None, changes: _Changes) -> int:
    """Count the classes, which go from 0 without a gap."""
    known = {part: np.unique(labels[part]) for part in PARTS}
    train, test = known["train"], known["test"]
    if {values.dtype.kind in "iu" for values in known.values()} == {True, False}:
        raise WrongArrays("the labels of one part are text, of the other numbers", "class numbers from 0, int64")
    lowest, highest = min(train[0], test[0]), max(train[-1], test[-1])
    if names and train.dtype.kind in "iu":
        if lowest == 1 and highest == len(names):
            _begin_at_zero(changes)
        elif lowest < 0 or highest >= len(names):
            part = next(part for part in PARTS if known[part][0] < 0 or known[part][-1] >= len(names))
            raise WrongArrays(
                f"{part}_labels go from {known[part][0]} to {known[part][-1]}, and {len(names)} classes have names",
                f"labels from 0 to {len(names) - 1}, or a name for each class",
            )
        return len(names)
    strange = np.setdiff1d(test, train)
    if strange.size:
        raise WrongArrays(
            f"test_labels holds {', '.join(map(str, strange[:5]))}, which train_labels lacks",
            "training images of that class, or no test images of it",
            why=f"what is not trained cannot be told: train_labels go from {train[0]} to {train[-1]}",
        )
    count = len(train)
    if count < 2:
        raise WrongArrays(f"all labels are {train[0]}", "images of two classes or more")
    if train.dtype.kind in "iu":
        if [*train] == [-1, 1]:
            for part in PARTS:
                changes.add(f"{part}_labels", "-1 and 1 in place of 0 and 1", "({} + 1) // 2")
            return 2
        if lowest < 0:
            raise WrongArrays(
                f"labels go from {lowest} to {highest}",
                "class numbers from 0; images without a class (often -1) left out with their labels",
            )
        if [train[0], train[-1]] == [0, count - 1]:
            return count
        if [train[0], train[-1]] == [1, count]:
            _begin_at_zero(changes)
            return count
    _renumber(train, changes)
    return count


def _begin_at_zero(changes: _Changes) -> None:
    for part in PARTS:
        changes.add(f"{part}_labels", "classes are counted from 1 in place of 0", "{} - 1")


def _renumber(train: npt.NDArray[Any], changes: _Changes) -> None:
    shown = ", ".join(map(str, train[:4])) + (", ..." if len(train) > 4 else "")
    fault = f"the {len(train)} classes are {shown} in place of 0 to {len(train) - 1}"
    if train.dtype.kind in "iu":
        fault += " (where a class may have no training images, `classes` names them all)"
    known = f"np.unique({changes.expression('train_labels')})"
    for part in PARTS:
        changes.add(f"{part}_labels", fault, f"{known}.searchsorted({{}})")
