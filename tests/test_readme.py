"""The README's commands, its Python and what it says that a mistake is answered with."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tser_lightning.cli.main import main
from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import compose_run
from tser_lightning.sweep.combinations import jobs_of

README = (Path(__file__).parent.parent / "README.md").read_text()
MODELS = """
from tser_lightning.models import resnet_small as my_net
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    """What follows `python -m tser_lightning` on every line that begins with it, without the comment."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    asked = [line.removeprefix("python -m tser_lightning") for line in lines if line.startswith("python -m")]
    return [shlex.split(line, comments=True) for line in asked]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds the modules which the README speaks of."""
    (own_loss,) = (block for block in blocks("python") if block.startswith("# my_losses.py"))
    (tmp_path / "my_losses.py").write_text(own_loss)
    (tmp_path / "my_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_there_are_commands_to_test() -> None:
    assert len(commands()) >= 7
    assert [] in commands()


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_a_command_is_a_right_one(command: list[str], folder: Path) -> None:
    if "--help" in command:
        return
    words = [word for word in command if not word.startswith("-") and word != "job"]
    if "-m" in command:
        for job in jobs_of(words, Configs()):
            compose_run(job)
    else:
        compose_run(words, check_data="--cfg" not in command)


def test_a_mistake_is_answered_as_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks("console")
    command, *answer = block.strip().splitlines()
    assert main(shlex.split(command.removeprefix("$ python -m tser_lightning"))) == 2
    assert capsys.readouterr().err.splitlines() == answer


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in commands() if "task" not in " ".join(c)], ids=" ".join)
def test_a_command_runs(command: list[str], folder: Path) -> None:
    show = "--help" in command or "--cfg" in command
    trial = [] if show else ["debug=step", "logging.wandb.mode=disabled"]
    ended = subprocess.run([sys.executable, "-m", "tser_lightning", *command, *trial], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert show or list(folder.glob("runs/digits-*/result.json"))


@pytest.mark.slow
def test_the_python_runs(folder: Path) -> None:
    (block,) = (block for block in blocks("python") if "tl.train" in block)
    ended = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "'kl'" in ended.stdout
