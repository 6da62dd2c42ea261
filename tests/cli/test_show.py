from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tser_lightning.cli.main import main

Told = Callable[..., list[tuple[str, str, str]]]


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(argv) == 0
    return capsys.readouterr().out


def test_the_config_is_shown_as_written_or_resolved(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("student.timesteps=3", "--cfg", "job", "--package", "student.attention_timesteps")
    assert shown(capsys, *words) == "${.timesteps}\n"
    assert shown(capsys, *words, "--resolve") == "3\n"
    whole = yaml.safe_load(shown(capsys, "--cfg", "job", "--resolve"))
    assert whole["task"] == "distill"
    assert "hydra" not in whole


def test_showing_needs_no_data_but_right_names(capsys: pytest.CaptureFixture[str], told: Told) -> None:
    assert "cifar10" in shown(capsys, "data=cifar10", "--cfg", "job", "--package", "data")
    assert told("loss.lamda=1", "--cfg", "job")[0][0] == "loss.lamda is not a setting"
    assert told("--cfg", "job", "--package", "los")[0][0].startswith("--package los")


def test_hydras_own_config_can_be_seen(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert "runs_dir" in shown(capsys, "--cfg", "hydra", "--package", "hydra.sweep")
    assert "experiments://" in shown(capsys, "--info", "searchpath")


def test_help_names_everything_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "--help")
    for word in ("task=teach", "experiment=imagenet_sew34", "tser*", "plif", "--config-dir", "trainer.epochs=100"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_shell_can_ask_for_completions(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", "tser loss=vanilla")
    monkeypatch.setenv("COMP_POINT", "17")
    assert shown(capsys, "-sc", "query=bash").split() == ["loss=vanilla_kd", "loss=vanilla_kd_er"]


def test_help_explains_the_settings_of_an_option_and_of_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "--help", "loss=tser", "trainer")
    assert "loss.lam=0.01\n    weight of the entropy; the paper finds 0.0001 to 0.2 stable (a number from 0)" in text
    assert "loss.separate_ce=true" in text  # has a default and stands in no file
    assert "trainer.accumulate=1" in text
    assert "machine" not in text


def test_help_names_the_groups_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help", "los"]) == 2
    assert capsys.readouterr().err.endswith("try: --help loss\n")
