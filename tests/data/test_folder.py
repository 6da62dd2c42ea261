import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from tser_lightning.data import ImageFolder
from tser_lightning.data.checks import resize_for
from tser_lightning.data.folder import as_seen
from tser_lightning.data.random_numbers import Stream, draw, sample_keys
from tser_lightning.errors import UsageError
from tser_lightning.records.identity import identity


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for part, images in (("train", 10), ("val", 3)):
        for label, suffix in (("ant", "png"), ("bee", "jpg")):
            (tmp_path / part / label).mkdir(parents=True)
            for number in range(images):
                pixels = random.integers(0, 256, (20 + number, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / label / f"{number:02}.{suffix}")
    return tmp_path


def _data(path: Path, **settings: Any) -> ImageFolder:
    defaults = {
        "num_classes": 2,
        "shape": [3, 12, 16],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "resize": 18,
        "batch_size": 4,
    }
    return ImageFolder(path, **{**defaults, **settings})


def test_evaluation_images_are_resized_and_cut_out_of_the_centre(tree: Path) -> None:
    batch = next(iter(_data(tree).loader("test")))
    files = sorted((tree / "val").glob("*/*"))
    transform = v2.Compose([v2.Resize(18), v2.CenterCrop([12, 16]), v2.PILToTensor()])

    assert batch.labels.tolist() == [0, 0, 0, 1, 1, 1]
    for file, image in zip(files, batch.images, strict=True):
        expected = transform(Image.open(file).convert("RGB")).float() / 255
        torch.testing.assert_close(image, (expected - 0.5) / 0.5)


def test_training_images_are_torchvisions_resized_crop_under_the_images_seed(tree: Path) -> None:
    batch = next(iter(_data(tree, scale=[0.2, 0.9]).loader("train", seed=5)))
    files = sorted((tree / "train").glob("*/*"))
    transform = v2.Compose([v2.RandomResizedCrop([12, 16], scale=(0.2, 0.9)), v2.PILToTensor()])
    seeds = draw(sample_keys(5, 0, batch.indices), Stream.RESIZED_CROP, 1 << 31)

    for index, seed, image in zip(batch.indices.tolist(), seeds.tolist(), batch.images, strict=True):
        torch.manual_seed(seed)
        expected = transform(Image.open(files[index]).convert("RGB")).float() / 255
        torch.testing.assert_close(image, (expected - 0.5) / 0.5)


def test_workers_change_no_bit(tree: Path) -> None:
    data = _data(tree, augment={"flip": True, "auto": "imagenet", "cutout": 4})

    for alone, helped in zip(data.loader("train"), data.loader("train", workers=2), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))


def test_validation_is_cut_from_the_training_folder(tree: Path) -> None:
    data = _data(tree, validation=0.2)

    assert data.labels("train")[data.indices("val")].tolist() == [0, 0, 1, 1]
    assert len(data.indices("train")) == 16
    assert data.classes == ("ant", "bee")


def test_grey_images_are_read_in_one_channel(tree: Path) -> None:
    data = _data(tree, shape=[1, 12, 16], mean=[0.5], std=[0.5])

    assert next(iter(data.loader("test"))).images.shape == (6, 1, 12, 16)


def test_fingerprint_follows_names_and_sizes_but_not_the_place(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = _data(tree).fingerprint()
    moved = tree.rename(tmp_path_factory.mktemp("elsewhere") / "tree")

    assert _data(moved).fingerprint() == before
    parts = _data(moved).fingerprints()
    (moved / "val" / "ant" / "00.png").rename(moved / "val" / "ant" / "09.png")
    assert _data(moved).fingerprint() != before
    assert _data(moved).fingerprints()["train"] == parts["train"]
    assert _data(moved).fingerprints()["test"] != parts["test"]


def test_each_part_is_known_by_the_bytes_of_its_images(tree: Path) -> None:
    first, second = tree / "train" / "ant" / "y.bmp", tree / "train" / "ant" / "z.bmp"
    Image.new("RGB", (20, 24), "red").save(first)
    Image.new("RGB", (20, 24), "lime").save(second)
    assert first.stat().st_size == second.stat().st_size
    before, whole = _data(tree).fingerprints(), _data(tree).fingerprint()
    os.utime(first)
    assert _data(tree).fingerprints() == before
    red, lime = first.read_bytes(), second.read_bytes()
    first.write_bytes(lime)
    second.write_bytes(red)
    assert _data(tree).fingerprint() == whole
    assert _data(tree).fingerprints()["train"] != before["train"]
    assert _data(tree).fingerprints()["test"] == before["test"]


def test_prepare_only_checks(tree: Path) -> None:
    assert _data(tree, name="bugs").prepare() == f"{tree} is ready: 20 + 6 images"


def test_a_damaged_image_is_a_mistake_that_names_it(tree: Path) -> None:
    damaged = tree / "val" / "bee" / "01.jpg"
    damaged.write_bytes(damaged.read_bytes()[:300])

    with pytest.raises(UsageError, match=r"val/bee/01\.jpg cannot be read"):
        list(_data(tree).loader("test"))


def test_every_image_is_looked_at_once_before_a_training(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = tree / "val" / "ant" / "02.png"
    content = good.read_bytes()
    good.write_bytes(b"x")
    (tree / "train" / "bee" / "zz.jpg").symlink_to(tree / "nowhere.jpg")
    with pytest.raises(UsageError, match=r"train/bee/zz\.jpg cannot be read: No such file"):
        _data(tree).verify()
    (tree / "train" / "bee" / "zz.jpg").unlink()
    with pytest.raises(UsageError, match=r"val/ant/02\.png cannot be read: its bytes are none of the formats"):
        _data(tree).verify()
    good.write_bytes(content)
    looked: list[str] = []
    look = ImageFolder._looked_at

    def counted(data: ImageFolder, file: str) -> Any:
        looked.append(file)
        return look(data, file)

    monkeypatch.setattr(ImageFolder, "_looked_at", counted)
    _data(tree).verify()
    assert sorted(looked) == [f"val/ant/{number:02}.png" for number in range(3)]
    _data(tree).verify()
    assert len(looked) == 3
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    os.utime(good)
    with pytest.raises(UsageError, match="Pillow refuses such sizes"):
        _data(tree).verify()


def test_which_folder_is_the_test_split_is_said(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = _data(tree)
    with caplog.at_level("INFO", "tser_lightning"):
        data.verify()
    train, val, test = (len(data.indices(split)) for split in ("train", "val", "test"))
    assert f"{train + val} images of train/, {val} of them held out for validation; val/ is the test" in caplog.text
    assert f"({test} images)" in caplog.text


def test_images_that_move_are_counted(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tree / "train" / "ant" / "moves.png", save_all=True, append_images=frames[1:])
    _data(tree).verify()
    assert "1 files hold several pictures; the first of each is read" in caplog.text


@pytest.mark.parametrize("fraction", [0.0, 0.01])
def test_no_image_to_validate_on_is_a_mistake(tree: Path, fraction: float) -> None:
    with pytest.raises(UsageError, match=r"holds out none of the 20 training images"):
        _data(tree, validation=fraction).indices("val")


def test_a_class_without_images_is_a_mistake(tree: Path) -> None:
    for file in (tree / "train" / "ant").iterdir():
        file.unlink()

    with pytest.raises(UsageError, match="ant"):
        _data(tree).labels("train")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("val", "there is no folder .*val"),
        ("val/bee", "different classes, e.g. bee"),
        ("both/bee", "has 1 class folders"),
    ],
)
def test_a_wrong_layout_is_a_mistake(tree: Path, damage: str, message: str) -> None:
    for folder in [tree / damage] if "both" not in damage else [tree / "train" / "bee", tree / "val" / "bee"]:
        folder.rename(tree / f"gone-{folder.parent.name}-{folder.name}")

    with pytest.raises(UsageError, match=message):
        _data(tree).check()


def test_a_resize_below_the_size_is_refused(tree: Path) -> None:
    with pytest.raises(ValueError, match="resize=10 is below"):
        _data(tree, resize=10)


def test_evaluation_sees_most_of_an_image_of_any_size_and_says_where_it_does_not(
    tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert (resize_for(224), resize_for(32)) == (256, 37)
    assert _data(tree, resize=None).resize == 18
    assert not caplog.records
    _data(tree, resize=256)
    assert "resize=18 would keep most of it" in caplog.text


def test_a_size_that_follows_from_the_shape_names_the_run_as_if_it_were_written() -> None:
    shape = {"shape": [3, 224, 224]}
    assert identity({"data": {**shape, "resize": None}}) == identity({"data": {**shape, "resize": 256}})


def test_a_16_bit_picture_is_scaled_and_one_of_unknown_range_refused(tmp_path: Path) -> None:
    ramp = np.linspace(0, 2**16 - 1, 64).astype(np.uint16).reshape(8, 8)
    for name in ("a.png", "a.tiff"):
        Image.fromarray(ramp).save(tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert np.array_equal(np.asarray(as_seen(image)), np.round(ramp / 257).astype(np.uint8))
    for odd in (np.full((8, 8), 0.5, np.float32), np.full((8, 8), 2**20, np.int32)):
        Image.fromarray(odd).save(tmp_path / "b.tiff")
        with Image.open(tmp_path / "b.tiff") as image, pytest.raises(ValueError, match=r"numbers of mode [FI]"):
            as_seen(image)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_black_ink_on_a_transparent_ground_lies_on_white(tmp_path: Path, mode: str) -> None:
    ink = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    ink.paste((0, 0, 0, 255), (2, 2, 4, 4))
    ink.convert(mode).save(tmp_path / "ink.png")
    expected = np.full((8, 8), 255)
    expected[2:4, 2:4] = 0
    with Image.open(tmp_path / "ink.png") as image:
        assert np.array_equal(np.asarray(as_seen(image).convert("L")), expected)


def test_a_picture_is_turned_as_a_viewer_turns_it(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6), np.uint8)
    pixels[0, 0] = 255
    lying = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    lying.save(tmp_path / "lying.png", exif=exif)
    with Image.open(tmp_path / "lying.png") as image:
        upright = np.asarray(as_seen(image))
    assert upright.shape == (6, 4)
    assert upright[0, 3] == 255
