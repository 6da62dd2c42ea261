"""The real conversion on small files of the same layout as torchvision's downloads; nothing touches a network."""

import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torchvision import datasets

from tser_lightning.data import Downloaded
from tser_lightning.data.download import convert
from tser_lightning.errors import UsageError

_RANDOM = np.random.default_rng(0)


def _idx(values: np.ndarray[Any, Any]) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def _write_fashion_mnist(root: Path, size: int = 28) -> dict[str, np.ndarray[Any, Any]]:
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    arrays = {}
    for part, prefix, images in (("train", "train", 40), ("test", "t10k", 20)):
        arrays[f"{part}_images"] = _RANDOM.integers(0, 256, (images, size, size), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(images, dtype=np.uint8) % 10
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(_idx(arrays[f"{part}_images"]))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(_idx(arrays[f"{part}_labels"]))
    return arrays


def _settings(channels: int = 1, size: int = 28, **settings: Any) -> dict[str, Any]:
    return {
        "num_classes": 10,
        "shape": [channels, size, size],
        "mean": [0.5] * channels,
        "std": [0.5] * channels,
    } | settings


def test_fashion_mnist_is_prepared_from_torchvisions_files(tmp_path: Path) -> None:
    arrays = _write_fashion_mnist(tmp_path)
    data = Downloaded("fashion_mnist", tmp_path, **_settings())

    assert data.prepare() == f"wrote {tmp_path}/fashion_mnist.safetensors: 40 + 20 images"

    found = load_file(tmp_path / "fashion_mnist.safetensors")
    for part in ("train", "test"):
        assert np.array_equal(found[f"{part}_images"].numpy(), arrays[f"{part}_images"][..., None])
        assert np.array_equal(found[f"{part}_labels"].numpy(), arrays[f"{part}_labels"])
    assert next(iter(data.loader("test"))).images.shape == (20, 1, 28, 28)
    assert data.classes is not None
    assert data.classes[9] == "Ankle boot"


def test_a_good_prepared_file_is_left_alone_and_a_damaged_one_made_anew(tmp_path: Path) -> None:
    _write_fashion_mnist(tmp_path)
    Downloaded("fashion_mnist", tmp_path, **_settings()).prepare()
    path = tmp_path / "fashion_mnist.safetensors"
    good, written = path.read_bytes(), path.stat().st_mtime_ns

    assert Downloaded("fashion_mnist", tmp_path, **_settings()).prepare() == f"{path} is ready"
    assert path.stat().st_mtime_ns == written
    path.write_bytes(good[:-5])
    Downloaded("fashion_mnist", tmp_path, **_settings()).prepare()
    assert path.read_bytes() == good


def test_a_download_that_does_not_fit_is_a_mistake(tmp_path: Path) -> None:
    _write_fashion_mnist(tmp_path, size=12)

    with pytest.raises(UsageError, match=r"are \[1, 12, 12\]"):
        Downloaded("fashion_mnist", tmp_path, **_settings()).prepare()


def _write_batch(folder: Path, name: str, content: dict[str, Any]) -> list[str]:
    data = pickle.dumps(content)
    (folder / name).write_bytes(data)
    return [name, hashlib.md5(data).hexdigest()]


def _small_cifar(root: Path, cifar: Any, key: str, labels: int) -> tuple[Any, np.ndarray[Any, Any]]:
    """Write batches in CIFAR's layout, and the subclass of torchvision's class that knows their checksums."""
    folder = root / cifar.base_folder
    folder.mkdir()
    planes = _RANDOM.integers(0, 256, (labels, 3 * 32 * 32), dtype=np.uint8)
    half = labels // 2
    files = [
        _write_batch(folder, name, {"data": rows, key: list(range(first, first + half))})
        for name, rows, first in (("one", planes[:half], 0), ("two", planes[half:], half))
    ]
    test = _write_batch(folder, "three", {"data": planes[:half], key: list(range(half))})
    names = _write_batch(folder, "names", {cifar.meta["key"]: [f"class {label}" for label in range(labels)]})
    meta = cifar.meta | {"filename": names[0], "md5": names[1]}
    return type(cifar.__name__, (cifar,), {"train_list": files, "test_list": [test], "meta": meta}), planes


@pytest.mark.parametrize(("name", "key", "labels"), [("CIFAR10", "labels", 10), ("CIFAR100", "fine_labels", 100)])
def test_cifar_batches_are_converted(tmp_path: Path, name: str, key: str, labels: int) -> None:
    cifar, planes = _small_cifar(tmp_path, getattr(datasets, name), key, labels)

    arrays, classes = convert(cifar, tmp_path)

    # A row of CIFAR is the red plane, then the green, then the blue one, each in raster order.
    assert np.array_equal(arrays["train_images"].numpy(), planes.reshape(labels, 3, 32, 32).transpose(0, 2, 3, 1))
    assert arrays["train_labels"].tolist() == list(range(labels))
    assert arrays["test_labels"].dtype == torch.int64
    assert len(arrays["test_images"]) == labels // 2
    assert classes[3] == "class 3"


def test_a_download_that_fails_is_a_mistake(tmp_path: Path) -> None:
    # torchvision fails to make its folder before it asks any server.
    (tmp_path / "root").write_text("a file where the folder should be")

    with pytest.raises(UsageError, match=r"cifar10 could not be downloaded into .*root"):
        Downloaded("cifar10", tmp_path / "root", **_settings(3, 32)).prepare()


def test_a_missing_file_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        Downloaded("cifar10", tmp_path, **_settings(3, 32)).check()

    assert caught.value.what == f"there is no prepared data set {tmp_path}/cifar10.safetensors"
    assert caught.value.fix == f"python -m tser_lightning task=prepare data=cifar10 data.root={tmp_path}"


def test_only_known_sets_are_downloaded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'mnist' is not one of"):
        Downloaded("mnist", tmp_path, **_settings())
