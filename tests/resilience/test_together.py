"""Processes that train together: one writer, one end, whoever of them is killed or told to stop."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tser_lightning.training import distiller

# Of the statistics of BatchNorm each process has its own.
TOGETHER = ["norm._target_=torch.nn.InstanceNorm2d"]
TWO = ["machine.devices=2", "machine.strategy=ddp"]

Sabotage = Callable[[], Any]


def nothing() -> None:
    return


def both(child: Any, *sabotage: Sabotage) -> list[int]:
    """Start two processes as Lightning and torchrun do, and give their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def placed(rank: int) -> Sabotage:
        def place() -> None:
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
            os.environ |= {"WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
            (*sabotage, nothing, nothing)[rank]()

        return place

    return [child.end(pid) for pid in [child.start(placed(rank)) for rank in (0, 1)]]


def numbers(child: Any) -> list[dict[str, float]]:
    return [{key: float(value) for key, value in row.items() if key != "seconds"} for row in child.home.metrics()]


@pytest.mark.slow
def test_two_processes_give_what_one_gives_and_one_of_them_writes(
    command: Callable[..., Any], left_alone: Callable[..., Any]
) -> None:
    _, _, alone = left_alone(*TOGETHER)
    one, child = command(*TOGETHER), command(*TOGETHER, *TWO)
    assert one() == 0
    assert both(child) == [0, 0], child.said()
    for row, row_2 in zip(numbers(one), numbers(child), strict=True):
        assert row_2 == pytest.approx(row, abs=1e-5)
    together = json.loads((child.home.path / "result.json").read_text())
    for name, value in alone.items():
        assert together[name] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value)
    assert child.home.info()["status"] == "finished"
    assert (child.home.path / "log.txt").read_text().count("saturated") <= 1


@pytest.mark.parametrize("told", [(1,), pytest.param((0, 1), marks=pytest.mark.slow)])
def test_a_signal_to_any_of_them_ends_all_at_one_step_which_is_saved(
    command: Callable[..., Any], told_at: Callable[..., Any], references: dict[str, Any], told: tuple[int, ...]
) -> None:
    words = [*TWO, "trainer.accumulate=2", "trainer.ema=0.9", "machine.checkpoint_every=null"]
    words += ["data.eval_batch_size=143"]  # of 144 images: the last batch is one process's alone
    if "together" not in references:
        alone = command(*words)
        assert both(alone) == [0, 0], alone.said()
        references["together"] = alone.ends()
    child = command(*words)
    stop = told_at(distiller.Distiller, "backward", 11, signal.SIGTERM)
    started = time.monotonic()
    codes = both(child, *(stop if rank in told else nothing for rank in (0, 1)))
    assert codes == [143, 143], child.said()
    assert time.monotonic() - started < 30
    assert "Traceback" not in child.said()
    assert child.home.info()["status"] == "terminated"
    standing = torch.load(child.home.checkpoints / "last.ckpt", weights_only=True)["standing"]
    assert (standing["epoch"], standing["batch"]) == (1, 4)  # the eleventh of eight an epoch, and its pair
    assert both(child) == [0, 0], child.said()
    assert child.ends() == references["together"]


def test_a_signal_where_nothing_is_to_be_saved_ends_them_too(
    command: Callable[..., Any], told_at: Callable[..., Any]
) -> None:
    child = command(*TWO)
    started = time.monotonic()
    stop = told_at(distiller.Distiller, "validation_step", 1, signal.SIGTERM)
    assert both(child, stop, stop) == [143, 143], child.said()
    assert time.monotonic() - started < 30
    assert child.home.info()["status"] == "terminated"


@pytest.mark.parametrize("dead", [0, 1])
def test_one_that_is_killed_ends_the_other_with_a_sentence(
    command: Callable[..., Any], told_at: Callable[..., Any], dead: int
) -> None:
    child = command(*TWO)
    started = time.monotonic()
    kill = told_at(distiller.Distiller, "backward", 11, signal.SIGKILL)
    codes = both(child, *(kill if rank == dead else nothing for rank in (0, 1)))
    assert codes[dead] == -signal.SIGKILL
    assert codes[1 - dead] == 1, child.said()
    assert time.monotonic() - started < 60
    assert "one of the processes that train together has died" in child.said()
    assert "Traceback" not in child.said()


def telling_its_share() -> None:
    """Say what part of the student this process trains."""
    whole = distiller.Distiller.on_train_start

    def telling(self: Any) -> None:
        parameters = list(self.student.parameters())
        here = sum(parameter.to_local().numel() for parameter in parameters)
        print(f"share {here / sum(parameter.numel() for parameter in parameters):.2f}", flush=True)
        whole(self)

    distiller.Distiller.on_train_start = telling  # type: ignore[method-assign]


@pytest.mark.slow
def test_a_student_in_parts_gives_what_a_whole_one_gives(
    command: Callable[..., Any], told_at: Callable[..., Any]
) -> None:
    words = [*TOGETHER, "trainer.clip=0.5", "machine.devices=2"]
    whole, parts = command(*words, "machine.strategy=ddp"), command(*words, "machine.strategy=fsdp")
    assert both(whole) == [0, 0], whole.said()
    stop = told_at(distiller.Distiller, "backward", 11, signal.SIGTERM)
    assert both(parts, telling_its_share, stop) == [143, 143], parts.said()
    (share,) = (float(line.split()[1]) for line in parts.said().splitlines() if line.startswith("share"))
    assert 0.3 < share < 0.7
    assert both(parts) == [0, 0], parts.said()
    for row, row_2 in zip(numbers(whole), numbers(parts), strict=True):
        assert row_2 == pytest.approx(row, abs=1e-5)
