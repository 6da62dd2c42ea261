from pathlib import Path

import pytest
from torchvision import datasets

from tser_lightning.data import folder_index
from tser_lightning.data.folder_index import NAME, index_of

PARTS = {"train": "train", "test": "val"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in PARTS.values():
        for label in ("b", "a"):
            (tmp_path / folder / label).mkdir(parents=True)
            for number in range(3):
                (tmp_path / folder / label / f"{number}.png").touch()
    return tmp_path


def test_the_second_start_reads_the_list_and_a_change_is_seen(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = index_of(root, PARTS)
    assert first["test"]["b"] == ["val/b/0.png", "val/b/1.png", "val/b/2.png"]
    assert list(first["train"]) == ["a", "b"]

    def never(*arguments: object) -> None:
        raise AssertionError("looked up again")

    with monkeypatch.context() as patched:
        patched.setattr(datasets, "ImageFolder", never)
        assert index_of(root, PARTS) == first
    (root / "train" / "a" / "9.png").touch()
    assert index_of(root, PARTS)["train"]["a"][-1] == "train/a/9.png"


@pytest.mark.parametrize("content", ["", "[]", '{"signature": 1}', "x" * 100])
def test_a_damaged_list_is_made_again(root: Path, content: str) -> None:
    first = index_of(root, PARTS)
    (root / NAME).write_text(content)
    assert index_of(root, PARTS) == first


def test_folders_inside_a_class_are_looked_up_every_time(root: Path) -> None:
    (root / "train" / "a" / "more").mkdir()
    if folder_index._signature(root, PARTS) is not None:
        pytest.skip("this file system does not count folders as links")
    (root / "train" / "a" / "more" / "1.png").touch()
    index_of(root, PARTS)
    (root / "train" / "a" / "more" / "2.png").touch()
    assert index_of(root, PARTS)["train"]["a"][-1] == "train/a/more/2.png"
