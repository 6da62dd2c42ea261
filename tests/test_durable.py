import errno
import json
from pathlib import Path

import pytest

from tser_lightning.durable import replacing, write_json, write_text
from tser_lightning.mistake import Failure


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
    with pytest.raises(Failure, match=r"a\.txt could not be written: the disk is full"):
        fill_the_disk(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
