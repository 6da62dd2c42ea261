"""A run that is killed, wherever it is, and started again ends as one that was left alone, bit for bit."""

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tser_lightning.training import distiller, evaluation
from tser_lightning.training.checkpoints import Checkpoints


def kill_at(owner: Any, name: str, call: int) -> Callable[[], None]:
    """Kill this process where a function is called for the n-th time, before it does anything."""

    def sabotage() -> None:
        whole, calls = getattr(owner, name), 0

        def deadly(*arguments: Any, **settings: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(*arguments, **settings)

        setattr(owner, name, deadly)

    return sabotage


POINTS = {
    "between forward and backward": kill_at(distiller.Distiller, "backward", 8),
    "mid-validation": kill_at(distiller.Distiller, "on_validation_epoch_end", 2),
    "before a save is flushed": kill_at(os, "fsync", 17),
    "between the two renames of a save": kill_at(os, "replace", 14),
    "at the end of an epoch": kill_at(Checkpoints, "on_train_epoch_end", 2),
    "in the evaluation": kill_at(evaluation.Evaluation, "on_test_epoch_end", 1),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_changes_nothing(
    command: Callable[..., Any], left_alone: Callable[..., Any], hard: list[str], point: str
) -> None:
    expected = left_alone(*hard)
    child = command(*hard)
    assert child(POINTS[point]) == -signal.SIGKILL
    assert child() == 0, child.said()
    assert child.ends() == expected
    assert not list(child.home.path.rglob("*.part"))


def killed_at_random(child: Any, longest: float, times: int) -> int:
    """Kill a run up to so many times at random moments, then let it end; gives how often it was killed."""
    kills = 0
    for _ in range(times):
        pid = child.start()
        time.sleep(random.uniform(0, longest))
        os.kill(pid, signal.SIGKILL)
        kills += child.end(pid) == -signal.SIGKILL
    assert child() == 0, child.said()
    return kills


def test_processes_that_load_data_change_nothing_either(
    command: Callable[..., Any], left_alone: Callable[..., Any], hard: list[str]
) -> None:
    child = command(*hard, "machine.workers=2")
    assert child(POINTS["between forward and backward"]) == -signal.SIGKILL
    assert child() == 0, child.said()
    assert child.ends() == left_alone(*hard)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_fifty_random_kills_change_nothing(
    command: Callable[..., Any], left_alone: Callable[..., Any], hard: list[str], workers: int
) -> None:
    expected = left_alone(*hard)
    started = time.monotonic()
    assert command(*hard, f"machine.workers={workers}")() == 0
    longest, kills = time.monotonic() - started, 0
    while kills < 25:
        child = command(*hard, f"machine.workers={workers}")
        kills += killed_at_random(child, longest, times=2)
        assert child.ends() == expected
