import re
from pathlib import Path

import pytest
import yaml

from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import compose_run
from tser_lightning.sweep.combinations import jobs_of
from tser_lightning.tasks.logbook import opened_log

DOCS = Path(__file__).parents[2] / "docs"


def test_runs_are_grouped_tagged_and_configured_by_name(
    configs: Configs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    job = jobs_of(["sweep=lambda", "loss.lam=0.1,0.2", "student.timesteps=3"], configs)[0]
    run = compose_run([*job, "logging.wandb.mode=offline", "logging.wandb.tags=[mine]"], configs=configs)
    with opened_log(run, folder / "records" / run.name) as log:
        assert (log.group, log.job_type, log.id) == ("lambda-digits", "distill", run.name)
        assert set(log.tags) == {"mine", "loss=tser", "student=cnn_small", "data=digits"}
        assert (log.config["loss"]["name"], log.config["loss"]["lam"], log.config["experiment"]) == (
            "tser",
            0.1,
            "digits",
        )
        assert log.config["student"]["timesteps"] == 3


def test_a_run_outside_a_sweep_is_grouped_by_its_experiment(
    configs: Configs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    run = compose_run(["logging.wandb.mode=offline", "teacher=none", "loss=ce"], configs=configs)
    with opened_log(run, folder / "records" / run.name) as log:
        assert log.group == "digits"
        assert log.id != run.name  # the agent's own
        assert log.config["teacher"]["name"] == "none"


def test_the_sweep_file_for_wandb_asks_for_commands_that_are_right(configs: Configs) -> None:
    sweep = yaml.safe_load((DOCS / "wandb_sweep.yaml").read_text())
    assert sweep["metric"] == {"name": "val/best_acc", "goal": "maximize"}
    words = [word for word in sweep["command"] if re.fullmatch(r"[\w.]+=\w+", word)]
    for ends in ("min", "max"):
        values = {
            name: how.get("value", how.get(ends, how.get("values", [None])[0]))
            for name, how in sweep["parameters"].items()
        }
        run = compose_run([*words, *(f"{name}={value}" for name, value in values.items())], configs=configs)
        assert run.config["loss"]["lam"] == values["loss.lam"]
