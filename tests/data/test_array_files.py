import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tser_lightning.config.translation import arguments_as_settings
from tser_lightning.data import check_data
from tser_lightning.errors import UsageError


def _good() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    images = {part: draw.integers(0, 256, (size, 8, 6, 1)).astype(np.uint8) for part, size in _SIZES.items()}
    labels = {part: draw.permutation(np.arange(size) % 4) for part, size in _SIZES.items()}
    for array in images.values():
        array[0].flat[:2] = 0, 255
    return {f"{part}_images": images[part] for part in images} | {f"{part}_labels": labels[part] for part in labels}


_SIZES = {"train": 20, "test": 8}
_SETTINGS = {"_target_": "tser_lightning.data.Prepared", "num_classes": 4, "shape": [1, 8, 6]}
_DIGITS = {"_target_": "tser_lightning.data.Digits", "num_classes": 10}
_FOLDER = {"_target_": "tser_lightning.data.ImageFolder", "num_classes": 4, "shape": [1, 8, 6]}


def _typed(path: Path, settings: dict[str, Any] = _SETTINGS) -> Path:
    """Type what the answer says, and give the file that it names."""
    with pytest.raises(UsageError) as refused, arguments_as_settings("data", settings | {"path": "..."}):
        check_data(settings | {"path": str(path)})
    python, flag, code, then, chosen, setting = shlex.split(refused.value.fix)
    assert (python, flag, then, chosen) == ("python", "-c", "then", "data=prepared")
    exec(code, {})
    return Path(setting.removeprefix("data.path="))


def _is_good(path: Path) -> None:
    check_data(_SETTINGS | {"path": str(path)})
    found = load_file(path)
    for name, expected in _good().items():
        np.testing.assert_array_equal(found[name], expected, err_msg=name)


@pytest.mark.parametrize("settings", [_SETTINGS, _FOLDER])
def test_an_npz_file_becomes_a_prepared_one(tmp_path: Path, settings: dict[str, Any]) -> None:
    np.savez(tmp_path / "it's mine.npz", **_good())

    made = _typed(tmp_path / "it's mine.npz", settings)

    assert made == tmp_path / "it's mine.safetensors"
    _is_good(made)


def test_an_npz_file_in_the_form_of_others_becomes_a_prepared_one_at_once(tmp_path: Path) -> None:
    good = _good()
    np.savez_compressed(
        tmp_path / "mnist.npz",
        x_train=np.moveaxis(good["train_images"], -1, 1) / 255,
        y_train=good["train_labels"][:, None].astype(np.uint8) + 1,
        x_test=good["test_images"][..., 0],
        y_test=np.eye(5)[good["test_labels"] + 1],
    )

    _is_good(_typed(tmp_path / "mnist.npz"))


def test_a_file_of_torch_becomes_a_prepared_one(tmp_path: Path) -> None:
    torch.save({name: torch.from_numpy(array) for name, array in _good().items()}, tmp_path / "arrays.pt")

    _is_good(_typed(tmp_path / "arrays.pt"))


@pytest.mark.parametrize("named", [".", "x_train.npy"])
def test_arrays_in_a_file_each_become_a_prepared_one(tmp_path: Path, named: str) -> None:
    names = {"train_images": "x_train", "train_labels": "y_train", "test_images": "x_val", "test_labels": "y_val"}
    for name, array in _good().items():
        np.save(tmp_path / f"{names[name]}.npy", array)

    _is_good(_typed(tmp_path / named))


def test_a_file_that_another_program_wrote_is_written_anew_beside_it(tmp_path: Path) -> None:
    good = _good()
    wrong = good | {
        "train_images": np.ascontiguousarray(np.moveaxis(good["train_images"], -1, 1)),
        "test_labels": good["test_labels"].astype(np.int32),
    }
    save_file(wrong, tmp_path / "mine.safetensors", {"classes": '["ant", "bee", "cat", "dog"]'})
    before = (tmp_path / "mine.safetensors").read_bytes()

    made = _typed(tmp_path / "mine.safetensors")

    assert made == tmp_path / "mine-prepared.safetensors"
    assert (tmp_path / "mine.safetensors").read_bytes() == before
    assert b'\\"ant\\", \\"bee\\"' in made.read_bytes()
    _is_good(made)


def test_arrays_in_the_order_of_torch_are_told_by_the_shape_that_is_expected(tmp_path: Path) -> None:
    good = _good()
    for part in _SIZES:
        good[f"{part}_images"] = np.repeat(good[f"{part}_images"], 13, axis=-1)  # as many bands as a satellite sees
    wrong = {n: np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim > 1 else x for n, x in good.items()}
    save_file(wrong, tmp_path / "mine.safetensors")

    made = _typed(tmp_path / "mine.safetensors", _SETTINGS | {"shape": [13, 8, 6]})

    np.testing.assert_array_equal(load_file(made)["train_images"], good["train_images"])


def test_other_channels_come_with_their_normalisation(tmp_path: Path) -> None:
    good = _good()
    save_file(good, tmp_path / "mine.safetensors")
    path = {"path": str(tmp_path / "mine.safetensors")}
    pixels = good["train_images"].astype(float) / 255

    with pytest.raises(UsageError) as refused:
        check_data(_SETTINGS | path | {"shape": [3, 8, 6]})

    expected = f"shape=[1,8,6] mean=[{pixels.mean():.4f}] std=[{pixels.std():.4f}]"
    assert refused.value.fix == expected


@pytest.mark.parametrize(
    "settings", [{"_target_": "tser_lightning.data.Digits", "num_classes": 10}, {"num_classes": 4}]
)
def test_a_mean_for_each_channel(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        check_data({"shape": [1, 8, 8], "mean": [0.5, 0.4, 0.3], "std": [0.2]} | settings)

    assert refused.value.fix == "mean=[0.4]"


def test_files_that_are_none_of_these(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", train_images=np.array([{}], dtype=object))
    (tmp_path / "empty.npz").touch()
    (tmp_path / "table.csv").write_text("1,2\n")
    (tmp_path / "images" / "train").mkdir(parents=True)

    for name, message in {
        "objects.npz": "objects.npz cannot be read: Object arrays",
        "empty.npz": "empty.npz is damaged",
        "table.csv": "table.csv is damaged",
        "images": "images is a folder",
        "nowhere.npz": "there is no prepared data set",
    }.items():
        with pytest.raises(UsageError, match=message):
            check_data(_SETTINGS | {"path": str(tmp_path / name)})
    with pytest.raises(UsageError, match=r"table.csv is a file") as refused:
        check_data(_FOLDER | {"path": str(tmp_path / "table.csv")})
    assert refused.value.fix == f"`Prepared` path={tmp_path}/table.csv"


def test_a_file_of_that_name_but_for_its_ending_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **_good())

    with pytest.raises(UsageError, match="there is no prepared data set") as refused:
        check_data(_SETTINGS | {"path": str(tmp_path / "mine.safetensors")})

    assert refused.value.fix == f"path={tmp_path}/mine.npz"
