import logging
import os
from pathlib import Path

import pytest
from torchvision import datasets

from tser_lightning.data.folder_index import NAME, images_of, keep_verified, stamps, verified
from tser_lightning.errors import UsageError

PARTS = {"train": "train", "test": "val"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in PARTS.values():
        for label in ("b", "a"):
            (tmp_path / folder / label).mkdir(parents=True)
            for number in range(3):
                (tmp_path / folder / label / f"{number}.png").touch()
    return tmp_path


def test_the_list_is_torchvisions_in_its_order(root: Path) -> None:
    for name in ("Z", "c d", "c"):
        (root / "train" / "a" / name / "more").mkdir(parents=True)
        (root / "train" / "a" / name / "more" / "1.JPG").touch()
        (root / "train" / "a" / name / "1.tiff").touch()
    theirs = datasets.ImageFolder(root / "train")
    ours = images_of(root, PARTS)["train"]

    assert list(ours) == theirs.classes
    assert [f"{root}/{file}" for files in ours.values() for file in files] == [file for file, _ in theirs.samples]


def test_a_change_is_seen_where_folders_keep_their_times(root: Path) -> None:
    first = images_of(root, PARTS)
    status = (root / "train" / "a").stat()
    (root / "train" / "a" / "0.png").rename(root / "train" / "a" / "9.png")
    os.utime(root / "train" / "a", ns=(status.st_atime_ns, status.st_mtime_ns))

    assert images_of(root, PARTS) != first
    assert images_of(root, PARTS)["train"]["a"][-1] == "train/a/9.png"


def test_what_systems_leave_behind_is_no_class_and_no_image_and_other_formats_are_counted(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = images_of(root, PARTS)
    assert not caplog.records
    for name in (".ipynb_checkpoints", "__MACOSX"):
        for place in (root / "train", root / "train" / "a"):
            (place / name).mkdir()
            (place / name / "0.png").touch()
    for name in (".DS_Store", "._0.png", "Thumbs.db"):
        (root / "train" / "a" / name).touch()
    assert images_of(root, PARTS) == first
    assert not caplog.records
    for number in range(9):
        (root / "val" / "b" / f"{number}.gif").touch()
    with caplog.at_level(logging.WARNING):
        assert images_of(root, PARTS) == first
    assert "files that are not read: 9 .gif" in caplog.text


def test_links_without_an_end_and_names_that_are_no_text_are_mistakes(root: Path) -> None:
    loop = root / "train" / "a" / "loop"
    loop.symlink_to(root / "train")
    with pytest.raises(UsageError, match="link to a folder that holds it"):
        images_of(root, PARTS)
    loop.unlink()
    for place in (b"train/a/\xff.png", b"train/\xff"):
        odd = os.fsencode(root) + b"/" + place
        Path(os.fsdecode(odd)).symlink_to(root / "val" / ("a" if place.endswith(b"\xff") else "a/0.png"))
        with pytest.raises(UsageError, match="a name that is not UTF-8") as caught:
            images_of(root, PARTS)
        str(caught.value).encode()
        os.unlink(odd)
    (root / "train" / "c").symlink_to(root / "nowhere")
    with pytest.raises(UsageError, match="train/c is a link that leads nowhere"):
        images_of(root, PARTS)


@pytest.mark.parametrize("content", ["", "[]", '{"signature": 1}', '{"verified": 3}', "x" * 100])
def test_a_damaged_record_counts_as_none(root: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root / "home"))
    now = {"train/a": (stamps(root, ["train/a/0.png"]), "a hash")}
    keep_verified(root, now)
    assert verified(root) == now
    (root / NAME).write_text(content)
    assert verified(root) == {}
