"""Checkpoints that were cut off or changed are found, named, and replaced by the one before."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tser_lightning.errors import RunError
from tser_lightning.training.checkpoints import checkpoint_to_resume, read_sealed, sealed


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    generator = torch.Generator().manual_seed(0)
    weights = {f"layer{index}": torch.randn(40, 10, generator=generator) for index in range(5)}
    return sealed({"state_dict": weights, "epoch": 3, "loops": {"fit_loop": {"done": False}}})


def test_a_sealed_file_is_a_torch_file(tmp_path: Path, whole: bytes) -> None:
    file = tmp_path / "last.ckpt"
    file.write_bytes(whole)
    content = torch.load(file, weights_only=True)
    assert content["epoch"] == read_sealed(file)["epoch"] == 3
    assert torch.equal(content["state_dict"]["layer4"], read_sealed(file)["state_dict"]["layer4"])


def test_every_truncation_is_found(tmp_path: Path, whole: bytes) -> None:
    file = tmp_path / "last.ckpt"
    lengths = [0, 1, 21, 22, 65, 66, 67, len(whole) - 1, *random.Random(0).sample(range(len(whole)), 192)]
    for length in lengths:
        file.write_bytes(whole[:length])
        with pytest.raises(RunError, match=r"the checkpoint .*last\.ckpt is damaged"):
            read_sealed(file)


def test_every_flipped_bit_is_found(tmp_path: Path, whole: bytes) -> None:
    file = tmp_path / "last.ckpt"
    draw = random.Random(1)
    tail = list(range(8 * (len(whole) - 90), 8 * len(whole), 7))  # the seal itself and the end of the archive
    for bit in [*tail, *draw.sample(range(8 * len(whole)), 500 - len(tail))]:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        with pytest.raises(RunError, match="is damaged"):
            read_sealed(file)


def test_the_checkpoint_before_is_used_and_stays(
    tmp_path: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    last, previous = tmp_path / "last.ckpt", tmp_path / "last.previous.ckpt"
    assert checkpoint_to_resume(tmp_path) is None
    last.write_bytes(whole[:-100])
    previous.write_bytes(whole)
    assert checkpoint_to_resume(tmp_path) == last
    assert last.read_bytes() == whole
    assert f"the checkpoint {last} is damaged" in caplog.text
    last.write_bytes(whole[:-100])
    assert checkpoint_to_resume(tmp_path) is None
    assert "the training begins again" in caplog.text


def test_a_run_with_a_damaged_checkpoint_ends_as_if_nothing_had_been(
    command: Callable[..., Any], left_alone: Callable[..., Any], hard: list[str]
) -> None:
    child = command(*hard)
    assert child() == 0, child.said()
    for name in ("result.json", "student.safetensors"):
        (child.home.path / name).unlink()
    checkpoint = child.home.checkpoints / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-500])
    shutil.copy(checkpoint, child.home.checkpoints / "best.ckpt")
    assert child() == 0, child.said()
    assert "last.ckpt is damaged" in (child.home.path / "log.txt").read_text()
    assert child.ends() == left_alone(*hard)
