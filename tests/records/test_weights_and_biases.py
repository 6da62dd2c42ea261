import json
import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tser_lightning.errors import UsageError
from tser_lightning.records.weights_and_biases import from_environment, short_name

SCRIPT = """
import sys
from pathlib import Path
from tser_lightning.records.outcome import log_files, log_outcome
from tser_lightning.records.weights_and_biases import lightning_logger, wandb_run

folder, ending = Path(sys.argv[1]), sys.argv[2]
config = {"loss": {"name": "tser", "lam": 0.01}, "student": {"timesteps": 2}}
with wandb_run("digits-tser-1", folder, config, mode=sys.argv[3], group="table3-digits", tags=["loss=tser"]) as run:
    log = lightning_logger(run).log_metrics if sys.argv[4:] else run.log
    for epoch, accuracy in enumerate((50.0, 75.0, 70.0)):
        log({"val/acc": accuracy, "train/loss": 1.0 - epoch, "epoch": epoch})
    if ending == "interrupted":
        raise KeyboardInterrupt
    result = {"test/acc": 97.5, "test/acc_t1": 90.0, "test/acc_t2": 97.5, "test/acc_step1": 90.0,
              "test/acc_step2": 96.0, "loss.lam": 0.01}
    log_outcome(run, result, {"stage1.act": {"rate": 12.5, "dead_neurons": 0.0, "rate_by_step": [10.0, 15.0]}})
    (folder / "best.ckpt").write_bytes(b"weights")
    log_files(run, "model", "model", [folder / "best.ckpt"])
"""
KILLING = """
import os, pathlib, signal
import lightning.pytorch as pl

class Kill(pl.Callback):
    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 4 and not pathlib.Path("killed").exists():
            pathlib.Path("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""
# The port "discard", where nobody listens; no request leaves this machine.
NO_NETWORK = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}


def run(
    folder: Path, ending: str = "well", mode: str = "offline", *through: str, **environment: str
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", SCRIPT, str(folder), ending, mode, *through]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=clean | environment, timeout=300)


def offline_runs(folder: Path) -> list[Path]:
    return sorted((folder / "wandb").glob("offline-run-*-digits-tser-1"))


def inspected(run: Path, *what: str) -> str:
    wandb = Path(sys.executable).with_name("wandb")
    command = [str(wandb), "leet", "inspect", *what, "--json", str(run)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@cache  # a run that has ended does not change, and every look starts a process
def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in inspected(run).splitlines()]


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    return [line[kind] for line in lines(run) if line["type"] == kind]


def test_an_offline_run_reads_back_with_its_axes_summaries_steps_layers_and_files(tmp_path: Path) -> None:
    assert run(tmp_path, "well", "offline", "lightning").returncode == 0
    (found,) = offline_runs(tmp_path)
    told = json.loads(inspected(found, "--summary"))
    summary = told["summary"]
    assert (told["state"], told["exit_code"], told["tags"]) == ("finished", 0, ["loss=tser"])
    assert (told["config"]["loss"], told["config"]["student"]) == ({"name": "tser", "lam": 0.01}, {"timesteps": 2})
    assert summary["val/acc"] == {"max": 75, "last": 70}
    assert summary["train/loss"] == -1
    assert (summary["test/acc"], summary["loss.lam"]) == (97.5, 0.01)
    assert {summary[f"by_{what}/table"]["nrows"] for what in ("step", "layer")} == {1, 2}
    (start,) = records(found, "run")
    assert (start["run_group"], start["job_type"], start["run_id"]) == ("table3-digits", "distill", "digits-tser-1")
    metrics = {metric.get("name") or metric["glob_name"]: metric for metric in records(found, "metric")}
    assert metrics["val/acc"]["step_metric"] == metrics["val/*"]["step_metric"] == "epoch"
    assert metrics["by_step/acc_step"]["step_metric"] == "by_step/t"
    items = [record["item"] for record in records(found, "history")]
    assert [(item["by_step/t"], item["by_step/acc_step"]) for item in items if "by_step/t" in item] == [
        (1, 90),
        (2, 96),
    ]
    assert [item["by_layer/firing_rate"] for item in items if "by_layer/index" in item] == [12.5]
    tables = [json.loads(path.read_text()) for path in found.rglob("*.table.json")]
    assert ["stage1.act", 12.5] in [row[1:3] for table in tables for row in table["data"]]
    (artifact,) = (each for each in records(found, "artifact") if each["name"] == "model")
    (entry,) = artifact["manifest"]["contents"]
    assert entry["path"] == "best.ckpt"
    assert Path(entry["local_path"]).read_bytes() == b"weights"
    assert tmp_path in Path(entry["local_path"]).parents


@pytest.mark.slow
def test_an_interrupted_run_says_so_and_goes_on_as_the_same_run(tmp_path: Path) -> None:
    run(tmp_path, "interrupted")
    time.sleep(1.1)  # W&B names folders by the second
    run(tmp_path)
    first, second = (json.loads(inspected(each, "--summary")) for each in offline_runs(tmp_path))
    assert (first["exit_code"], second["exit_code"]) == (130, 0)
    assert first["run_id"] == second["run_id"] == "digits-tser-1"
    assert all(records(each, "run")[0]["resume"] for each in offline_runs(tmp_path))


@pytest.mark.slow
def test_a_run_that_was_killed_and_went_on_has_all_its_epochs(tmp_path: Path) -> None:
    (tmp_path / "killing.py").write_text(KILLING)
    words = ["trainer.epochs=6", "teacher.training.epochs=1", "logging.wandb.mode=offline"]
    words += ["+callbacks.kill._target_=killing.Kill", "trusted_modules=[killing]"]
    command = [sys.executable, "-m", "tser_lightning", *words]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    ended = [subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, timeout=600) for _ in range(2)]
    assert [each.returncode for each in ended] == [-9, 0]
    (home,) = (tmp_path / "runs").glob("digits-*")
    parts = list((tmp_path / "runs" / "wandb").glob("offline-run-*"))
    told = [record["item"] for part in parts for record in records(part, "history")]
    found = {item["epoch"]: item["val/acc"] for item in told if "val/acc" in item}
    rows = [line.split(",") for line in (home / "metrics.csv").read_text().splitlines()]
    column = rows[0].index("val/acc")
    assert found == {epoch: pytest.approx(float(row[column]), abs=1e-3) for epoch, row in enumerate(rows[1:])}
    assert len(found) == 6


def test_with_a_key_but_no_network_a_run_is_logged_offline_at_once(tmp_path: Path) -> None:
    ended = run(tmp_path, mode="auto", **NO_NETWORK)
    assert ended.returncode == 0, ended.stderr
    assert "this run is logged offline" in ended.stderr
    (found,) = offline_runs(tmp_path)
    assert json.loads(inspected(found, "--summary"))["summary"]["test/acc"] == 97.5


def test_who_insists_on_the_server_is_told_that_there_is_none(tmp_path: Path) -> None:
    ended = run(tmp_path, mode="online", **NO_NETWORK)
    assert "W&B cannot be reached" in ended.stderr
    assert ended.returncode == 1
    assert not offline_runs(tmp_path)


def test_disabled_gives_no_run_and_writes_nothing(tmp_path: Path) -> None:
    from tser_lightning.records.weights_and_biases import wandb_run

    with wandb_run("name", tmp_path / "runs", {}, mode="disabled") as opened:
        assert opened is None
    assert not (tmp_path / "runs").exists()


def test_long_names_fit_into_the_names_that_wandb_makes_of_them() -> None:
    name = "digits-" + "a_1-" * 27 + "1a2b3c4d"
    assert len(name) == 123
    short = short_name(name)
    assert len(f"run-{short}-by_steptable-XXXXXX") <= 128
    assert short.startswith("digits-a_1-")
    assert short.endswith("-1a2b3c4d")
    assert short_name("digits-1a2b3c4d") == "digits-1a2b3c4d"


def test_the_command_goes_before_the_environment_and_that_before_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_RUN_GROUP", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    config: dict[str, Any] = {"mode": "auto", "project": "tser-lightning", "entity": None, "group": None, "tags": []}
    assert from_environment(config, ()) == config
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    assert from_environment(config, ()) == config | {"mode": "offline", "project": "mine"}
    assert from_environment(config, ("mode",)) == config | {"project": "mine"}
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(UsageError, match="WANDB_MODE=ofline is not one of online, offline"):
        from_environment(config, ())
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_DISABLED", "true")
    assert from_environment(config, ())["mode"] == "disabled"


def test_a_key_that_is_none_is_a_warning_and_the_run_is_logged_offline(tmp_path: Path) -> None:
    ended = run(tmp_path, mode="auto", WANDB_API_KEY="short")
    assert ended.returncode == 0, ended.stderr
    assert offline_runs(tmp_path)
