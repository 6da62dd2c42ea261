import errno
import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tser_lightning.atomic_io import refused, remove_parts, replacing, write_json, write_text
from tser_lightning.errors import RunError


def test_a_file_is_written_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "a.json", {"x": 1})
    write_text(tmp_path / "deep" / "a.txt", "new")
    assert json.loads((tmp_path / "deep" / "a.json").read_text()) == {"x": 1}
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["a.json", "a.txt"]


def fill_the_disk(target: Path) -> None:
    with replacing(target) as beside:
        beside.write_text("half")
        raise OSError(errno.ENOSPC, "the disk is full")


def test_a_write_that_fails_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(RunError, match=r"a\.txt could not be written: the disk is full"):
        fill_the_disk(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_writer_left_is_removed_by_the_next_and_what_a_live_one_writes_is_not(tmp_path: Path) -> None:
    host = socket.gethostname().replace(".", "_")[:64]
    with subprocess.Popen(["true"]) as dead, subprocess.Popen(["sleep", "60"]) as alive:
        dead.wait()
        old, live = (tmp_path / f".a.txt.{host}-{process.pid}.part" for process in (dead, alive))
        others = [tmp_path / f".a.txt.elsewhere-{number}.part" for number in (1, 2)]
        unnamed, of_b = tmp_path / f".a.txt.{dead.pid}.part", tmp_path / f".b.txt.{host}-{dead.pid}.part"
        for part in (old, live, unnamed, of_b, *others):
            part.touch()
        os.utime(others[1], (time.time() - 7200,) * 2)
        write_text(tmp_path / "a.txt", "new")
        assert set(tmp_path.iterdir()) == {tmp_path / "a.txt", live, others[0], of_b}
        remove_parts(tmp_path)
        assert set(tmp_path.iterdir()) == {tmp_path / "a.txt", live, others[0]}
        alive.kill()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EMFILE, errno.ENOTDIR, errno.EEXIST])
def test_what_the_system_refuses_is_a_sentence_with_the_file_in_it(number: int) -> None:
    failure = refused(OSError(number, os.strerror(number), "runs/x"))
    assert failure is not None
    assert failure.what == f"runs/x: {os.strerror(number)}"
    assert refused(OSError(number, os.strerror(number))) is not None
    assert refused(FileNotFoundError(errno.ENOENT, "no such file", "mine.txt")) is None
