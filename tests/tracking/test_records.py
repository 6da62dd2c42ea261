import json
import logging
import multiprocessing
import warnings
from pathlib import Path

import pytest
import yaml

from tser_lightning.mistake import Failure
from tser_lightning.tracking.records import RunDirectory


def test_a_run_directory_tells_what_was_run_and_how_it_ended(tmp_path: Path) -> None:
    home = RunDirectory(tmp_path / "digits-12345678")
    assert home.result() is None
    with home.opened({"loss": {"lam": 0.01}}, {"overrides": ["seed=1"]}):
        assert home.info()["status"] == "running"
        logging.getLogger("tser_lightning").warning("a line")
        warnings.warn("a warning", stacklevel=1)
        home.finish({"test/acc": 97.5})
    assert yaml.safe_load((home.path / "config.yaml").read_text()) == {"loss": {"lam": 0.01}}
    assert home.info()["status"] == "finished"
    assert home.info()["overrides"] == ["seed=1"]
    assert home.result() == {"test/acc": 97.5}
    log = (home.path / "log.txt").read_text()
    assert "a line" in log
    assert "a warning" in log
    home.clear()
    assert not home.path.exists()


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt(), "interrupted"), (SystemExit(143), "terminated"), (ValueError("disk"), "failed")],
)
def test_a_run_that_dies_leaves_its_story(tmp_path: Path, error: BaseException, status: str) -> None:
    home = RunDirectory(tmp_path / "run")
    with pytest.raises(type(error)), home.opened({}, {}):
        raise error
    first = home.info()
    assert first["status"] == status
    with home.opened({}, {}):
        pass
    assert home.info()["status"] == "finished"
    assert home.info()["started"] == first["started"]


def test_metrics_of_an_epoch_that_is_done_again_replace_the_old_ones(tmp_path: Path) -> None:
    home = RunDirectory(tmp_path)
    for epoch, loss in ((0, 1.5), (1, 1.25), (2, 1.0)):
        home.record({"epoch": epoch, "train/loss": loss})
    home.record({"epoch": 1, "train/loss": 1.125, "val/acc": 50.0})
    assert home.metrics() == [
        {"epoch": "0", "train/loss": "1.5", "val/acc": ""},
        {"epoch": "1", "train/loss": "1.125", "val/acc": "50.0"},
    ]


def _try_to_open(path: str) -> bool:
    try:
        with RunDirectory(path).opened({}, {}):
            return True
    except Failure:
        return False


def test_a_second_process_is_refused_while_the_first_works(tmp_path: Path) -> None:
    home = RunDirectory(tmp_path / "run")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        with home.opened({}, {}):
            assert not pool.apply(_try_to_open, (str(home.path),))
            assert json.loads((home.path / "run.json").read_text())["status"] == "running"
        assert pool.apply(_try_to_open, (str(home.path),))
