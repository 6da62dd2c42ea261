"""A disk that is full, failing or not ours costs nothing that was saved, and is told as what it is."""

import errno
import os
import pathlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tser_lightning.atomic_io import write_bytes
from tser_lightning.errors import RunError
from tser_lightning.records.run_directory import RunDirectory

WRITERS = {"write": (pathlib.Path, "write_bytes"), "flush": (os, "fsync"), "rename": (os, "replace")}
ERRORS = (errno.ENOSPC, errno.EACCES, errno.EIO)


def fail_at(writer: str, number: int, call: int) -> Callable[[], None]:
    """Let the n-th write, flush or rename of this process fail; error 0 is a write that stops half way, silently."""
    owner, name = WRITERS[writer]

    def sabotage() -> None:
        whole, calls = getattr(owner, name), 0

        def failing(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls != call:
                return whole(*arguments)
            if writer == "write":
                path, content = arguments
                whole(path, content[: len(content) // 2])
            if number:
                raise OSError(number, os.strerror(number))

        setattr(owner, name, failing)

    return sabotage


@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize("writer", WRITERS)
def test_a_failed_write_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, number: int
) -> None:
    target, kept = tmp_path / "a", tmp_path / "kept"
    write_bytes(target, b"good")
    owner, name = WRITERS[writer]
    monkeypatch.setattr(owner, name, getattr(owner, name))  # put back after the test
    fail_at(writer, number, 1)()
    with pytest.raises(RunError, match=os.strerror(number)):
        write_bytes(target, b"bad", keep=kept)
    assert next(path for path in (target, kept) if path.exists()).read_bytes() == b"good"
    assert not list(tmp_path.glob(".*"))


def test_a_short_write_is_read_back_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "a", b"good")
    monkeypatch.setattr(pathlib.Path, "write_bytes", pathlib.Path.write_bytes)
    fail_at("write", 0, 1)()
    with pytest.raises(RunError, match="what was read back is not what was written"):
        write_bytes(tmp_path / "a", b"much longer")
    assert (tmp_path / "a").read_bytes() == b"good"


def goes_on(child: Any, expected: Any) -> None:
    assert child() == 0, child.said()
    assert child.ends() == expected
    assert not list(child.home.path.rglob("*.part"))


@pytest.mark.parametrize(("writer", "call"), [("write", 9), ("rename", 12)])
def test_a_run_stops_at_a_failed_write_and_goes_on_later(
    command: Callable[..., Any], left_alone: Callable[..., Any], hard: list[str], writer: str, call: int
) -> None:
    child = command(*hard)
    assert child(fail_at(writer, errno.ENOSPC, call)) == 1
    assert "could not be written: No space left on device" in child.said()
    assert "Traceback" not in child.said()
    assert child.home.info()["status"] == "failed"
    goes_on(child, left_alone(*hard))


@pytest.mark.slow
@pytest.mark.parametrize("number", [*ERRORS, 0])
@pytest.mark.parametrize("writer", WRITERS)
def test_no_failed_write_costs_anything(
    command: Callable[..., Any], left_alone: Callable[..., Any], hard: list[str], writer: str, number: int
) -> None:
    if number == 0 and writer != "write":
        return
    call, code = 0, 1
    while code:
        call += 1
        child = command(*hard)
        code = child(fail_at(writer, number, call))
        if code:
            assert code == 1, child.said()
            assert "could not be written" in child.said()
            assert "Traceback" not in child.said()
        goes_on(child, left_alone(*hard))
    assert call > 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 KiB, where the system lets us have one."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("no right to mount a disk")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_that_runs_full_is_said_and_what_is_freed_is_used(
    command: Callable[..., Any], left_alone: Callable[..., Any], hard: list[str], small_disk: Path
) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(250_000))
    child = command(*hard, f"machine.runs_dir={small_disk}/runs")
    (small_disk / "runs").mkdir()
    assert child() == 1
    assert RunDirectory(child.home.path).result() is None
    filler.unlink()
    goes_on(child, left_alone(*hard))
    shutil.rmtree(small_disk / "runs")
