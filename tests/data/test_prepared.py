from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tser_lightning.data import Prepared, write_prepared
from tser_lightning.mistake import Mistake


def _arrays(classes: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = {"train": 30, "test": 12}
    return {
        f"{part}_images": torch.randint(256, (size, 6, 5, 2), dtype=torch.uint8, generator=generator)
        for part, size in sizes.items()
    } | {f"{part}_labels": torch.arange(size) % classes for part, size in sizes.items()}


def _data(path: Path, **settings: Any) -> Prepared:
    return Prepared(
        path,
        **{"num_classes": 3, "shape": [2, 6, 5], "mean": [0.0, 0.0], "std": [1.0, 1.0], "batch_size": 4} | settings,
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    arrays = _arrays()
    write_prepared(tmp_path / "new" / "mine.safetensors", arrays, ["cat", "dog", "owl"])
    data = _data(tmp_path / "new" / "mine.safetensors")

    batch = next(iter(data.loader("test", batch_size=12)))

    assert data.name == "mine"
    assert data.classes == ("cat", "dog", "owl")
    assert torch.equal((batch.images * 255).round().byte(), arrays["test_images"].permute(0, 3, 1, 2))
    assert torch.equal(batch.labels, arrays["test_labels"])
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["mine.safetensors"]


def test_numpy_arrays_are_written_as_tensors_are(tmp_path: Path) -> None:
    write_prepared(tmp_path / "tensors.safetensors", _arrays())
    write_prepared(tmp_path / "arrays.safetensors", {name: tensor.numpy() for name, tensor in _arrays().items()})

    assert (tmp_path / "arrays.safetensors").read_bytes() == (tmp_path / "tensors.safetensors").read_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    write_prepared(path, _arrays())
    before = path.read_bytes()

    with pytest.raises(Exception, match="meta"):
        write_prepared(path, {"train_images": torch.empty(2, device="meta")})

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_names_make_room_for_classes_without_images(tmp_path: Path) -> None:
    write_prepared(tmp_path / "mine.safetensors", _arrays(), ["cat", "dog", "owl", "emu"])

    _data(tmp_path / "mine.safetensors", num_classes=4).check()


def _without(name: str) -> dict[str, Tensor]:
    return {key: value for key, value in _arrays().items() if key != name}


DAMAGE = {
    "a tensor is missing": (_without("test_labels"), "test_labels"),
    "dtype of images": (_arrays() | {"train_images": torch.zeros(30, 6, 5, 2)}, "train_images is F32"),
    "dtype of labels": (_arrays() | {"train_labels": torch.zeros(30)}, "train_labels is float32"),
    "labels are fewer": (_arrays() | {"test_labels": torch.zeros(11, dtype=torch.int64)}, r"\[11\] for 12 images"),
    "no channel axis": (_arrays() | {"test_images": torch.zeros(12, 6, 5, dtype=torch.uint8)}, r"\[12, 6, 5\]"),
    "other test size": (
        _arrays() | {"test_images": torch.zeros(12, 6, 6, 2, dtype=torch.uint8)},
        r"test images \(6, 6, 2\)",
    ),
    "test label too high": (_arrays() | {"test_labels": torch.arange(12)}, "test_labels go from 0 to 11"),
    "negative label": (_arrays() | {"train_labels": torch.arange(30) % 3 - 1}, "train_labels go from -1 to 1"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_wrong_file_is_a_mistake_that_names_it(tmp_path: Path, case: str) -> None:
    tensors, message = DAMAGE[case]
    save_file(tensors, tmp_path / "mine.safetensors")

    with pytest.raises(Mistake, match=r"mine\.safetensors is damaged.*" + message):
        _data(tmp_path / "mine.safetensors").loader("train")


@pytest.mark.parametrize("keep", [0, 7, 200, -1])
def test_a_truncated_file_is_a_mistake_that_names_it(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "mine.safetensors"
    write_prepared(path, _arrays())
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(Mistake, match=r"mine\.safetensors is damaged"):
        _data(path).check()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"num_classes": 10}, "has 3 classes"), ({"shape": [2, 5, 6]}, r"are \[2, 6, 5\]")],
)
def test_settings_that_do_not_fit_are_a_mistake(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    write_prepared(tmp_path / "mine.safetensors", _arrays())

    with pytest.raises(Mistake, match=message):
        _data(tmp_path / "mine.safetensors", **settings).check()


def test_a_missing_file_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="there is no prepared data set"):
        _data(tmp_path / "mine.safetensors").fingerprint()
