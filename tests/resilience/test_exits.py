"""However a run ends, its exit code, its records and its words say so."""

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tser_lightning.errors import RunError, UsageError
from tser_lightning.training import distiller, evaluation
from tser_lightning.training.exit_handling import sentence

STEP, VALIDATION, EXAM = (
    (distiller.Distiller, "backward", 10),
    (distiller.Distiller, "validation_step", 2),
    (evaluation.Evaluation, "test_step", 1),
)


@pytest.mark.parametrize(
    ("point", "number", "code", "status"),
    [
        (STEP, signal.SIGTERM, 143, "terminated"),
        (VALIDATION, signal.SIGTERM, 143, "terminated"),
        (EXAM, signal.SIGTERM, 143, "terminated"),
        (STEP, signal.SIGINT, 130, "interrupted"),
    ],
)
def test_a_signal_ends_a_run_honestly_and_it_goes_on_exactly(
    command: Callable[..., Any],
    left_alone: Callable[..., Any],
    hard: list[str],
    point: tuple[Any, str, int],
    number: int,
    code: int,
    status: str,
    told_at: Callable[..., Any],
) -> None:
    child = command(*hard, "machine.checkpoint_every=null")
    started = time.monotonic()
    assert child(told_at(*point, number)) == code, child.said()
    assert time.monotonic() - started < 30
    assert child.home.info()["status"] == status
    assert child.home.result() is None
    assert "Traceback" not in child.said()
    if point is STEP and code == 143:  # an epoch has eight batches: all ten are kept
        standing = torch.load(child.home.checkpoints / "last.ckpt", weights_only=True)["standing"]
        assert (standing["epoch"], standing["batch"]) == (1, 2)
    assert child() == 0, child.said()
    assert child.ends() == left_alone(*hard)


def test_a_run_refuses_data_that_changed_since_it_began(
    command: Callable[..., Any], told_at: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    for part, label, number in (
        (part, label, number) for part in ("train", "val") for label in "ab" for number in range(8)
    ):
        (folder / part / label).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / part / label / f"{number}.png")
    small = [f"data.path={folder}", "data.num_classes=2", "data.shape=[3,8,8]", "data.resize=8", "data.batch_size=4"]
    words = ["data=image_folder", *small, "data.mean=[0.5,0.5,0.5]", "data.std=[0.3,0.3,0.3]", "selection=last"]
    child = command(*words, "loss=ce")
    assert child(told_at(distiller.Distiller, "backward", 5, signal.SIGTERM)) == 143, child.said()

    damaged = folder / "train" / "a" / "0.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(b"x" * len(whole))  # of the same size, so that only reading it can tell
    child.run.config["machine"]["workers"] = 2
    assert child() == 2
    assert f"{damaged} cannot be read" in child.said()
    assert "Traceback" not in child.said()

    damaged.unlink()
    assert child() == 2
    assert "the training images changed since" in child.said()
    assert "force=true" in child.said()

    damaged.write_bytes(whole)
    assert child() == 0, child.said()
    assert json.loads((child.home.path / "result.json").read_text())["data"] == "image_folder"


def test_a_dead_worker_is_a_sentence(command: Callable[..., Any], hard: list[str]) -> None:
    from tser_lightning.data.image_data import Batches

    def die_in_workers() -> None:
        whole, main = Batches.__getitem__, os.getpid()

        def deadly(self: Batches, key: Any) -> Any:
            if os.getpid() != main and key[0] == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(self, key)

        Batches.__getitem__ = deadly  # type: ignore[method-assign]

    child = command(*hard, "machine.workers=2")
    assert child(die_in_workers) == 1
    assert "a process that loads data has died" in child.said()
    assert "Traceback" not in child.said()


def test_want_of_memory_is_a_sentence_and_other_errors_stay_what_they_are() -> None:
    told = sentence(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."))
    assert isinstance(told, RunError)
    assert "`batch_size`" in told.fix
    assert isinstance(sentence(MemoryError("all gone")), RunError)
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert isinstance(sentence(caught.value), RunError)
    wrapped = RuntimeError(
        f"Caught\n  raise\ntser_lightning.errors.{UsageError.__name__}: {UsageError('a', 'b', 'c')}\n"
    )
    told = sentence(wrapped)
    assert isinstance(told, UsageError)
    assert (told.what, told.why, told.fix) == ("a", "b", "c")
    assert sentence(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert isinstance(sentence(OSError(errno.EIO, "x")), RunError)
    assert sentence(OSError("x")) is None
