from pathlib import Path

import pytest

from tser_lightning.records.source_code import code_hashes, own_module, own_names


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_losses.py").write_text("import math\nfrom own_parts import scale\nclass Mine: ...\n")
    (tmp_path / "own_parts.py").write_text("scale = 1\n")
    (tmp_path / "own_unused.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_only_the_users_own_code_is_hashed(folder: Path) -> None:
    assert set(code_hashes(["own_losses.Mine", "torch.optim.SGD", "tser_lightning.losses.TSER", "nowhere.X"])) == {
        "code of own_losses"
    }
    assert own_module("yaml") is None
    assert own_module("os") is None


@pytest.mark.parametrize(("file", "changes"), [("own_losses", True), ("own_parts", True), ("own_unused", False)])
def test_an_edited_file_changes_the_hash_also_where_it_is_imported(folder: Path, file: str, changes: bool) -> None:
    before = code_hashes(["own_losses.Mine"])
    assert code_hashes(["own_losses.Mine"]) == before
    with (folder / f"{file}.py").open("a") as source:
        source.write("# another\n")
    assert (code_hashes(["own_losses.Mine"]) != before) == changes


def test_names_are_read_off_the_source(folder: Path) -> None:
    assert own_names("own_losses") == {"math", "scale", "Mine"}
    assert own_names("own_parts") == {"scale"}
    assert own_names("torch") is None
    assert own_names("own_losses.Mine") is None
    (folder / "own_package").mkdir()
    (folder / "own_package" / "__init__.py").write_text("")
    (folder / "own_package" / "nets.py").write_text("class Net: ...")
    assert own_names("own_package") == {"__init__", "nets"}
    assert own_names("own_package.nets") == {"Net"}
    for unsettled in ("from math import *", "def __getattr__(name): ...", "globals()['Net'] = int", "class"):
        (folder / "own_parts.py").write_text(unsettled)
        assert own_names("own_parts") is None
