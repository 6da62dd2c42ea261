import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tser_lightning.config.check_files import readable_weights
from tser_lightning.config.run import Run
from tser_lightning.config.usage_errors import UsageErrors
from tser_lightning.errors import UsageError

Compose = Callable[..., Run]


def test_the_header_tells_the_class_count(folder: Path) -> None:
    save_file({"fc.weight": np.zeros((7, 4), np.float32), "conv.weight": np.zeros((4, 3), np.float32)}, "a.safetensors")
    assert readable_weights(Path("a.safetensors")) == 7
    save_file({"conv.weight": np.zeros((4, 3), np.float32)}, "b.safetensors")
    assert readable_weights(Path("b.safetensors")) is None


def test_every_truncation_is_found(folder: Path) -> None:
    save_file({"fc.weight": np.arange(12, dtype=np.float32).reshape(3, 4)}, "whole.safetensors")
    whole = Path("whole.safetensors").read_bytes()
    cut = Path("cut.safetensors")
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(UsageError, match="cannot be read"):
            readable_weights(cut)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not weights at all",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"null",
        struct.pack("<Q", 13) + json.dumps({"a": {"b": 1}}).encode(),
    ],
)
def test_rubbish_is_found(folder: Path, content: bytes) -> None:
    for name in ("a.safetensors", "a.pt"):
        Path(name).write_bytes(content)
        with pytest.raises(UsageError, match="cannot be read"):
            readable_weights(Path(name))


def test_a_torch_file_is_known_by_its_contents(folder: Path) -> None:
    with zipfile.ZipFile("a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    assert readable_weights(Path("a.pth")) is None
    with zipfile.ZipFile("b.pth", "w") as archive:
        archive.writestr("readme.txt", b"")
    with pytest.raises(UsageError, match="neither safetensors nor a whole torch file"):
        readable_weights(Path("b.pth"))


def test_weights_of_another_class_count_are_refused(folder: Path, compose: Compose) -> None:
    save_file({"fc.weight": np.zeros((7, 4), np.float32)}, "a.safetensors")
    with pytest.raises(UsageErrors, match=r"a\.safetensors has 7 classes, data=digits has 10"):
        compose("teacher.weights=a.safetensors")
    save_file({"fc.weight": np.zeros((10, 4), np.float32)}, "a.safetensors")
    assert compose("teacher.weights=a.safetensors").config["teacher"]["weights"] == "a.safetensors"


def test_looking_for_a_place_to_write_leaves_nothing_behind(folder: Path, compose: Compose) -> None:
    compose("machine.runs_dir=some/where")
    assert not list(folder.iterdir())


def test_an_unfinished_run_is_told_from_none(folder: Path, compose: Compose) -> None:
    (folder / "half").mkdir()
    with pytest.raises(UsageErrors, match="run=half: this run is not finished"):
        compose("task=evaluate run=half")
