import contextlib
import json
import logging
import multiprocessing
import warnings
from pathlib import Path

import pytest
import yaml

from tser_lightning.errors import RunError, UsageError
from tser_lightning.records.run_directory import TEST_IMAGES, TRAINING_IMAGES, RunDirectory


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
    home.set_aside()
    assert not home.path.exists()


def test_a_run_that_goes_on_has_the_backend_that_it_began_with(tmp_path: Path) -> None:
    home = RunDirectory(tmp_path / "run")
    with contextlib.suppress(KeyboardInterrupt), home.opened({}, {}):
        home.keep_backend("compiled")
        raise KeyboardInterrupt
    assert (home.info()["backend"], home.info()["status"]) == ("compiled", "interrupted")
    again = RunDirectory(home.path)
    with again.opened({}, {"overrides": []}):
        assert again.info()["backend"] == "compiled"
    assert (again.info()["backend"], again.info()["status"]) == ("compiled", "finished")


def test_a_result_that_is_done_again_is_kept_until_the_new_one_is_there(tmp_path: Path) -> None:
    home, kept = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / ".replaced" / "run")
    with home.opened({}, {}):
        home.finish({"test/acc": 90.0})
    home.set_aside()
    assert kept.result() == {"test/acc": 90.0}
    with pytest.raises(KeyboardInterrupt), home.opened({}, {}):
        raise KeyboardInterrupt
    home.set_aside()  # once more, without a new result
    assert not home.path.exists()
    assert kept.result() == {"test/acc": 90.0}
    with home.opened({}, {}):
        home.finish({"test/acc": 91.0})
    assert home.result() == {"test/acc": 91.0}
    assert not kept.path.exists()


def end_with(home: RunDirectory, error: BaseException, result: dict[str, float] | None = None) -> None:
    with home.opened({}, {}):
        if result is not None:
            home.finish(result)
        raise error


def test_an_interrupted_second_time_says_where_the_first_result_is_and_so_does_the_next_command(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = RunDirectory(tmp_path / "run")
    with home.opened({}, {}):
        home.finish({"test/acc": 90.0})
    home.set_aside()
    for _ in range(2):
        caplog.clear()
        with pytest.raises(KeyboardInterrupt):
            end_with(home, KeyboardInterrupt())
        assert f"the earlier result of this run is in {tmp_path / '.replaced' / 'run'}" in caplog.text
    caplog.clear()
    with home.opened({}, {}):
        home.finish({"test/acc": 91.0})
    assert ".replaced" in caplog.text  # at its beginning, when it still is there
    assert not (tmp_path / ".replaced" / "run").exists()


def test_a_second_time_that_does_not_begin_puts_the_first_result_back(tmp_path: Path) -> None:
    home = RunDirectory(tmp_path / "run")
    with home.opened({}, {}):
        home.finish({"test/acc": 90.0})
    home.set_aside()
    with pytest.raises(UsageError), home.restored_at_failure():
        raise UsageError("a", "b", "c")
    assert home.result() == {"test/acc": 90.0}


def test_what_fails_after_the_result_leaves_the_run_finished_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = RunDirectory(tmp_path / "run")
    with pytest.raises(MemoryError):
        end_with(home, MemoryError("no room for the features"), {"test/acc": 90.0})
    assert home.info()["status"] == "finished"
    assert home.info()["warning"] == ["no room for the features"]
    assert "no room for the features" in caplog.text


def _busy(path: str) -> bool:
    return RunDirectory(path).busy()


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
    rows = home.metrics()
    assert all(0 <= float(row.pop("seconds")) < 60 for row in rows)
    assert rows == [
        {"epoch": "0", "train/loss": "1.5", "val/acc": ""},
        {"epoch": "1", "train/loss": "1.125", "val/acc": "50.0"},
    ]


def _try_to_open(path: str) -> bool:
    try:
        with RunDirectory(path).opened({}, {}):
            return True
    except RunError:
        return False


def test_a_second_process_is_refused_while_the_first_works(tmp_path: Path) -> None:
    home = RunDirectory(tmp_path / "run")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        with home.opened({}, {}):
            assert not pool.apply(_try_to_open, (str(home.path),))
            assert pool.apply(_busy, (str(home.path),))
            assert json.loads((home.path / "run.json").read_text())["status"] == "running"
        assert not pool.apply(_busy, (str(home.path),))
        assert pool.apply(_try_to_open, (str(home.path),))


def test_checkpoints_of_other_data_are_not_gone_on_from(tmp_path: Path) -> None:
    home = RunDirectory(tmp_path / "run")
    with home.opened({}, {}, inputs={"data": "a" * 64, "teacher": "b" * 64}):
        pass
    with home.opened({}, {}, inputs={"data": "c" * 64}):  # nothing was saved yet
        pass
    home.checkpoints.mkdir()
    (home.checkpoints / "last.ckpt").touch()
    with pytest.raises(UsageError, match=r"(?s)the data changed since .* hash cccccccccccc, now it is aaaaaaaaaaaa"):
        home.opened({}, {}, inputs={"data": "a" * 64}).__enter__()
    with home.opened({}, {}, inputs={"data": "c" * 64}):
        pass


def test_other_test_images_throw_no_training_away_unless_it_chooses_by_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = RunDirectory(tmp_path / "run")
    before = {"data": "a" * 64, TRAINING_IMAGES: "b" * 64, TEST_IMAGES: "c" * 64}
    with home.opened({}, {}, inputs=before):
        pass
    home.checkpoints.mkdir()
    (home.checkpoints / "last.ckpt").touch()
    now = before | {"data": "d" * 64, TEST_IMAGES: "e" * 64}
    assert home.other_inputs(now) == [TEST_IMAGES]
    with pytest.raises(UsageError, match="the test images changed since"):
        home.opened({"selection": "paper"}, {}, inputs=now).__enter__()
    with pytest.raises(UsageError, match="the training images changed since"):
        home.opened({}, {}, inputs=before | {TRAINING_IMAGES: "f" * 64}).__enter__()
    with home.opened({"selection": "val"}, {}, inputs=now):
        pass
    assert "the test images changed since" in caplog.text


def test_a_process_that_trains_along_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    home = RunDirectory(tmp_path / "run")
    with home.opened({}, {}):
        home.record({"epoch": 0})
        home.finish({"test/acc": 1.0})
    home.set_aside()
    assert not home.path.exists()


def test_a_damaged_result_counts_as_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = RunDirectory(tmp_path)
    (tmp_path / "result.json").write_text('{"test/acc": 9')
    assert home.result() is None
    assert "result.json is damaged" in caplog.text


def log_on_a_full_disk(home: RunDirectory) -> None:
    with open("/dev/full", "w") as full, home.opened({}, {}):
        logger = logging.getLogger("tser_lightning")
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler) and str(home.path) in handler.baseFilename:
                handler.setStream(full)
        logger.warning("a line")


def test_a_log_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    home = RunDirectory(tmp_path / "run")
    with pytest.raises(RunError, match=r"log\.txt could not be written: No space left on device"):
        log_on_a_full_disk(home)
    assert home.info()["status"] == "failed"


@pytest.mark.parametrize("name", [".lock", "log.txt"])
def test_a_link_in_a_run_directory_that_was_sent_has_no_other_file_written(tmp_path: Path, name: str) -> None:
    ours, home = tmp_path / "ours", RunDirectory(tmp_path / "run")
    ours.write_text("precious\n")
    home.path.mkdir()
    (home.path / name).symlink_to(ours)
    with pytest.raises(RunError, match="could not be written") as found, home.opened({}, {}):
        logging.getLogger("tser_lightning").warning("a line")
    assert found.value.fix.startswith("the link removed")
    assert ours.read_text() == "precious\n"
