import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tser_lightning.data import check_data, write_prepared
from tser_lightning.errors import UsageError


def _settings(**settings: Any) -> dict[str, Any]:
    return {"num_classes": 2, "shape": [1, 4, 4]} | settings


def test_torch_is_not_imported() -> None:
    code = """
import sys
from tser_lightning.data import check_data
try:
    check_data({"num_classes": 10, "shape": [3, 32, 32], "root": "nowhere", "name": "cifar10"})
except ValueError as error:
    print(error, "torch" in sys.modules)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert "there is no prepared data set nowhere/cifar10.safetensors" in answer
    assert answer.endswith("data=cifar10 data.root=nowhere False\n")


def test_good_files_pass(tmp_path: Path) -> None:
    arrays = {}
    for part in ("train", "test"):
        arrays[f"{part}_images"] = torch.zeros(6, 4, 4, 1, dtype=torch.uint8)
        arrays[f"{part}_labels"] = torch.arange(6) % 2
        for label in ("a", "b"):
            folder = tmp_path / {"train": "train", "test": "val"}[part] / label
            folder.mkdir(parents=True)
            (folder / "0.png").touch()
    write_prepared(tmp_path / "fashion_mnist.safetensors", arrays)

    check_data(_settings(root=str(tmp_path), name="fashion_mnist"))
    check_data(_settings(path=str(tmp_path / "fashion_mnist.safetensors")))
    check_data(_settings(path=str(tmp_path)))
    check_data(_settings())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "nowhere.safetensors"}, "there is no prepared data set nowhere"),
        ({"path": "nowhere"}, "there is no folder nowhere/train"),
        ({"_target_": "tser_lightning.data.Digits"}, "digits has 10 classes"),
    ],
)
def test_wrong_settings_are_mistakes(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_data(_settings(**settings))


@pytest.mark.parametrize(
    ("there", "path", "fix"),
    [
        (["train/a", "test/a"], ".", "mv PATH/test PATH/val"),
        (["Training/a", "val/a"], ".", "mv PATH/Training PATH/train"),
        (["train/a", "valid/a"], "train", "path=PATH"),
        (["a", "b"], ".", "the folder that holds train/ and val/"),
    ],
)
def test_folders_of_other_names_are_told_what_to_move(tmp_path: Path, there: list[str], path: str, fix: str) -> None:
    for folder in there:
        (tmp_path / folder).mkdir(parents=True)

    with pytest.raises(UsageError) as told:
        check_data(_settings(path=str(tmp_path / path)))

    assert fix.replace("PATH", str(tmp_path)) in told.value.fix


def test_a_missing_file_of_another_kind_is_to_be_written_as_safetensors() -> None:
    with pytest.raises(UsageError) as told:
        check_data(_settings(_target_="tser_lightning.data.Prepared", path="arrays.npz"))

    assert "write_prepared('arrays.safetensors', arrays)" in told.value.fix
