from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import Tensor

from tser_lightning.config.run import compose_run
from tser_lightning.config.usage_errors import UsageErrors
from tser_lightning.data import Prepared, write_prepared
from tser_lightning.errors import UsageError
from tser_lightning.records.identity import identity

_SIZES = {"train": 30, "test": 12}


def _arrays(classes: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        f"{part}_images": torch.randint(256, (size, 6, 5, 2), dtype=torch.uint8, generator=generator)
        for part, size in _SIZES.items()
    } | {f"{part}_labels": torch.arange(size) % classes for part, size in _SIZES.items()}


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
        write_prepared(path, _arrays() | {"train_images": torch.empty(2, device="meta")})

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_names_make_room_for_classes_without_images(tmp_path: Path) -> None:
    write_prepared(tmp_path / "mine.safetensors", _arrays(), ["cat", "dog", "owl", "emu"])

    _data(tmp_path / "mine.safetensors", num_classes=4).check()


def _without(name: str) -> dict[str, Tensor]:
    return {key: value for key, value in _arrays().items() if key != name}


DAMAGE = {
    "a tensor is missing": (_without("test_labels"), "there is no test_labels"),
    "dtype of images": (_arrays() | {"train_images": torch.zeros(30, 6, 5, 2)}, "train_images: float32 from 0 to 0"),
    "labels are fewer": (
        _arrays() | {"test_labels": torch.arange(11) % 3},
        "test_images holds 12 images, test_labels 11",
    ),
    "other test size": (
        _arrays() | {"test_images": torch.zeros(12, 6, 6, 2, dtype=torch.uint8)},
        r"test images \[6, 6, 2\]",
    ),
    "five axes": (
        _arrays() | {"test_images": torch.zeros(12, 1, 6, 5, 2, dtype=torch.uint8)},
        r"test_images is \[12, 1",
    ),
    "no images": (_arrays() | {"test_images": torch.zeros(0, 6, 5, 2, dtype=torch.uint8)}, "it holds no images"),
    "no labels": (_arrays() | {"test_labels": torch.zeros(0, dtype=torch.int64)}, "it holds no labels"),
    "NaN in an image": (
        _arrays() | {"train_images": torch.zeros(30, 6, 5, 2).index_fill(0, torch.tensor([7]), torch.nan)},
        r"NaN or infinity, in 1 images, the first train_images\[7\]",
    ),
    "NaN in a label": (_arrays() | {"train_labels": torch.full((30,), torch.nan)}, "train_labels holds NaN"),
    "a part of a class": (_arrays() | {"train_labels": torch.full((30,), 0.37)}, "train_labels holds 0.37"),
    "test label too high": (_arrays() | {"test_labels": torch.arange(12)}, "test_labels holds 3, 4, 5, 6, 7, which"),
    "negative labels": (
        {key: value - 1 if "labels" in key else value for key, value in _arrays().items()},
        "labels go from -1 to 1",
    ),
    "one class": (_arrays(1), "all labels are 0"),
    "several classes an image": (_arrays() | {"train_labels": torch.ones(30, 3)}, "train_labels is float32"),
    "colour in one row": (
        _arrays() | {f"{part}_images": torch.zeros(size, 48, dtype=torch.uint8) for part, size in _SIZES.items()},
        "its pixels in one row",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_what_a_training_would_refuse_is_not_written(tmp_path: Path, case: str) -> None:
    tensors, message = DAMAGE[case]
    save_file(tensors, tmp_path / "mine.safetensors")

    with pytest.raises(UsageError, match=r"mine\.safetensors is not in the prepared form.*" + message):
        _data(tmp_path / "mine.safetensors").loader("train")
    with pytest.raises(UsageError, match=message):
        write_prepared(tmp_path / "new.safetensors", tensors)

    assert not (tmp_path / "new.safetensors").exists()


def _good(classes: int = 4) -> dict[str, Any]:
    """Eight rows of six grey pixels, of all brightnesses, and labels in no order."""
    draw = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, size in _SIZES.items():
        arrays[f"{part}_images"] = draw.integers(0, 256, (size, 8, 6, 1)).astype(np.uint8)
        arrays[f"{part}_images"][0].flat[:2] = 0, 255
        arrays[f"{part}_labels"] = draw.permutation(np.arange(size) % classes)
    return arrays


def _each(arrays: dict[str, Any], kind: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    return {name: change(array) if name.endswith(kind) else array for name, array in arrays.items()}


# What people have in place of the form; what the answer says, typed, must give back the good arrays.
SPOILED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "channels first": lambda good: _each(good, "images", lambda x: np.moveaxis(x, -1, 1)),
    "channels first in test alone": lambda good: good | {"test_images": np.moveaxis(good["test_images"], -1, 1)},
    "grey without channel": lambda good: _each(good, "images", lambda x: x[..., 0]),
    "images last": lambda good: _each(good, "images", lambda x: np.moveaxis(x, 0, -1)),
    "grey images last": lambda good: _each(good, "images", lambda x: np.moveaxis(x[..., 0], 0, -1)),
    "0 to 1": lambda good: _each(good, "images", lambda x: (x / 255).astype(np.float32)),
    "half": lambda good: _each(good, "images", lambda x: (x / 255).astype(np.float16)),
    "-1 to 1": lambda good: _each(good, "images", lambda x: x / 127.5 - 1),
    "normalised": lambda good: _each(good, "images", lambda x: (x / 255 - 0.3) / 0.2),
    "0 to 255 as floats": lambda good: _each(good, "images", lambda x: x.astype(float)),
    "int64 images": lambda good: _each(good, "images", lambda x: x.astype(np.int64)),
    "int8 images": lambda good: _each(good, "images", lambda x: (x.astype(int) - 128).astype(np.int8)),
    "16 bits": lambda good: _each(good, "images", lambda x: x.astype(np.uint16) * 257),
    "big-endian floats": lambda good: _each(good, "images", lambda x: (x / 255).astype(">f4")),
    "floats from the other end": lambda good: _each(good, "images", lambda x: (x[::-1] / 255)[::-1]),
    "one-hot": lambda good: _each(good, "labels", lambda y: np.eye(4)[y]),
    "one-hot booleans": lambda good: _each(good, "labels", lambda y: np.eye(4)[y] > 0),
    "probabilities": lambda good: _each(good, "labels", lambda y: np.eye(4, dtype="f4")[y] * 0.6 + 0.1),
    "float labels": lambda good: _each(good, "labels", lambda y: y.astype(np.float32)),
    "column labels": lambda good: _each(good, "labels", lambda y: y[:, None].astype(np.uint8)),
    "row labels": lambda good: _each(good, "labels", lambda y: y[None]),
    "from one": lambda good: _each(good, "labels", lambda y: y + 1),
    "column from one": lambda good: _each(good, "labels", lambda y: y[:, None].astype(np.uint8) + 1),
    "gaps": lambda good: _each(good, "labels", lambda y: y * 2 + 3),
    "column with gaps": lambda good: _each(good, "labels", lambda y: y[:, None] * 2),
    "text labels": lambda good: _each(good, "labels", lambda y: np.array(["ant", "bee", "cat", "dog"])[y]),
    "all at once": lambda good: _each(
        _each(good, "images", lambda x: np.moveaxis(x, -1, 1) / 255), "labels", lambda y: np.eye(5)[y + 1]
    ),
    "tensors": lambda good: {
        name: torch.tensor(np.moveaxis(x, -1, 1) / 255 if x.ndim > 1 else x + 1) for name, x in good.items()
    },
    "tensors that learn": lambda good: _each(good, "images", lambda x: torch.tensor(x / 255, requires_grad=True)),
    "bfloat16": lambda good: _each(good, "images", lambda x: torch.tensor(x.astype("f4")).bfloat16()),
    "lists": lambda good: {name: (x + (x.ndim == 1)).tolist() for name, x in good.items()},
    "names of Keras": lambda good: {
        "x_train": good["train_images"],
        "y_train": good["train_labels"],
        "x_test": good["test_images"],
        "y_test": good["test_labels"],
    },
    "names of Keras, and grey": lambda good: {
        "x_train": good["train_images"][..., 0],
        "y_train": good["train_labels"],
        "x_val": good["test_images"][..., 0],
        "y_val": good["test_labels"],
    },
}


@pytest.mark.parametrize("case", SPOILED)
def test_what_the_answer_says_makes_the_arrays_right(tmp_path: Path, case: str) -> None:
    good = _good()
    arrays = SPOILED[case](good)

    with pytest.raises(UsageError) as refused:
        write_prepared(tmp_path / "mine.safetensors", arrays)
    typed: dict[str, Any] = {"arrays": arrays, "np": np}
    exec(refused.value.fix, typed)
    write_prepared(tmp_path / "mine.safetensors", typed["arrays"])

    found = load_file(tmp_path / "mine.safetensors")
    for name, expected in good.items():
        if case == "bfloat16" and expected.ndim > 1:  # of 8 bits, of which one is the sign of the exponent
            assert abs(found[name].astype(int) - expected).max() <= 1
        else:
            np.testing.assert_array_equal(found[name], expected, err_msg=name)


def test_a_part_is_made_a_test_where_there_is_none(tmp_path: Path) -> None:
    good = {name: array for name, array in _good().items() if "train" in name}

    with pytest.raises(UsageError, match="there is no test_images, test_labels") as refused:
        write_prepared(tmp_path / "mine.safetensors", good)
    typed: dict[str, Any] = {"arrays": good, "np": np}
    exec(refused.value.fix, typed)
    write_prepared(tmp_path / "mine.safetensors", typed["arrays"])

    found = load_file(tmp_path / "mine.safetensors")
    assert len(found["test_images"]) == 6
    images = np.concatenate([found["train_images"], found["test_images"]])
    labels = np.concatenate([found["train_labels"], found["test_labels"]])
    assert {(x.tobytes(), y) for x, y in zip(images, labels, strict=True)} == {
        (x.tobytes(), y) for x, y in zip(good["train_images"], good["train_labels"], strict=True)
    }


TAKEN: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "int32": lambda good: _each(good, "labels", lambda y: y.astype(np.int32)),
    "uint8": lambda good: _each(good, "labels", lambda y: torch.tensor(y.astype(np.uint8))),
    "big-endian": lambda good: _each(good, "labels", lambda y: y.astype(">i8")),
    "uint16": lambda good: _each(good, "labels", lambda y: y.astype(np.uint16)),
    "not contiguous": lambda good: _each(good, "images", lambda x: np.asfortranarray(x)[::-1, ::-1][::-1, ::-1]),
    "lists": lambda good: _each(good, "labels", lambda y: y.tolist()),
}


@pytest.mark.parametrize("case", TAKEN)
def test_arrays_that_mean_the_same_are_written_as_the_same_file(
    tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_prepared(tmp_path / "good.safetensors", _good())
    write_prepared(tmp_path / "other.safetensors", TAKEN[case](_good()))

    assert (tmp_path / "other.safetensors").read_bytes() == (tmp_path / "good.safetensors").read_bytes()
    assert ("written as int64" in caplog.text) == ("int" in case)


def test_mapped_and_read_only_arrays_are_written(tmp_path: Path) -> None:
    good = _good()
    for name, array in good.items():
        np.save(tmp_path / f"{name}.npy", array)
    mapped = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in good}

    write_prepared(tmp_path / "mapped.safetensors", mapped)
    write_prepared(tmp_path / "good.safetensors", good)

    assert (tmp_path / "mapped.safetensors").read_bytes() == (tmp_path / "good.safetensors").read_bytes()


def test_two_classes_may_be_booleans_or_signs(tmp_path: Path) -> None:
    good = _good(2)
    write_prepared(tmp_path / "mine.safetensors", _each(good, "labels", lambda y: y > 0))
    assert (load_file(tmp_path / "mine.safetensors")["test_labels"] == good["test_labels"]).all()

    signs = _each(good, "labels", lambda y: y * 2 - 1)
    with pytest.raises(UsageError, match="-1 and 1") as refused:
        write_prepared(tmp_path / "mine.safetensors", signs)
    typed: dict[str, Any] = {"arrays": signs}
    exec(refused.value.fix, typed)
    np.testing.assert_array_equal(typed["arrays"]["train_labels"], good["train_labels"])


def test_what_is_left_out_and_what_is_all_but_black_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cut = _each(_good(), "images", lambda x: (x / 255).astype(np.uint8))

    write_prepared(tmp_path / "mine.safetensors", cut | {"val_images": cut["test_images"]})

    assert "train_images go from 0 to 1 of 255" in caplog.text
    assert "not written: val_images" in caplog.text
    assert set(load_file(tmp_path / "mine.safetensors")) == set(cut)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([1, 2, 3], "counted from 1"), ([0, 1, 4], r"0 to 4, and 3 classes have names"), ([-1, 0, 1], "-1 to 1, and 3")],
)
def test_labels_beyond_the_names_are_refused(tmp_path: Path, labels: list[int], message: str) -> None:
    arrays = _each(_good(3), "labels", lambda y: np.array(labels)[y])

    with pytest.raises(UsageError, match=message):
        write_prepared(tmp_path / "mine.safetensors", arrays, ["ant", "bee", "cat"])


@pytest.mark.parametrize("keep", [0, 7, 200, -1])
def test_a_truncated_file_is_a_mistake_that_names_it(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "mine.safetensors"
    write_prepared(path, _arrays())
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(UsageError, match=r"mine\.safetensors is damaged"):
        _data(path).check()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"num_classes": 10}, "has 3 classes"), ({"shape": [2, 5, 6]}, r"are \[2, 6, 5\]")],
)
def test_settings_that_do_not_fit_are_a_mistake(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    write_prepared(tmp_path / "mine.safetensors", _arrays())

    with pytest.raises(UsageError, match=message):
        _data(tmp_path / "mine.safetensors", **settings).check()


def test_a_missing_file_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no prepared data set"):
        _data(tmp_path / "mine.safetensors").fingerprint()


def test_a_file_says_classes_shape_mean_and_std_where_nobody_does(tmp_path: Path) -> None:
    arrays = _arrays()
    write_prepared(tmp_path / "mine.safetensors", arrays)
    data = Prepared(tmp_path / "mine.safetensors")
    pixels = arrays["train_images"].double() / 255
    assert (data.num_classes, data.shape) == (3, (2, 6, 5))
    assert data.augment.mean == pytest.approx(pixels.mean((0, 1, 2)).tolist(), abs=1e-4)
    assert data.augment.std == pytest.approx(pixels.std((0, 1, 2), correction=0).tolist(), abs=1e-4)
    assert Prepared(tmp_path / "mine.safetensors", mean=[0.0, 0.0]).augment.mean == [0.0, 0.0]
    with pytest.raises(UsageError, match=r"num_classes=4, but .* has 3 classes"):
        Prepared(tmp_path / "mine.safetensors", num_classes=4).check()


def test_a_command_names_the_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    write_prepared(file, _arrays())
    run = compose_run(["data=prepared", f"data.path={file}"])
    data = run.config["data"]
    assert (data["num_classes"], data["shape"]) == (3, [2, 6, 5])
    typed = [f"data.{key}={data[key]}".replace(" ", "") for key in ("num_classes", "shape", "mean", "std")]
    assert identity(compose_run(["data=prepared", f"data.path={file}", *typed]).config) == identity(run.config)
    assert not [part for part in run.differences if "mean" in part or "shape" in part]
    with pytest.raises(UsageErrors, match="has 3 classes"):
        compose_run(["data=prepared", f"data.path={file}", "data.num_classes=4"])


def test_a_file_that_is_not_there_is_the_only_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageErrors) as refused:
        compose_run(["data=prepared", f"data.path={tmp_path}/none.safetensors"])
    (mistake,) = refused.value.mistakes
    assert "there is no prepared data set" in mistake.what
