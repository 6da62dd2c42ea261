"""The README's commands, and the files that it links."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import compose_run
from tser_lightning.sweep.combinations import jobs_of

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    """What follows `python -m tser_lightning` on every line that begins with it, without the comment."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    asked = [line.removeprefix("python -m tser_lightning") for line in lines if line.startswith("python -m")]
    return [shlex.split(line, comments=True) for line in asked]


def test_there_are_commands_to_test() -> None:
    assert len(commands()) >= 3
    assert [] in commands()


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_a_command_is_a_right_one(command: list[str], configs: Configs) -> None:
    if "--help" in command:
        return
    words = [word for word in command if not word.startswith("-") and word != "job"]
    one_seed = [re.sub(r"^(seed=\d+),.*", r"\1", word) for word in words]
    for job in jobs_of(one_seed, configs) if "-m" in command else [words]:
        compose_run(job, check_data="--cfg" not in command, configs=configs)


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 15
    assert not [link for link in links if not (Path(__file__).parent.parent / link).exists()]


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in commands() if "task" not in " ".join(c)], ids=" ".join)
def test_a_command_runs(command: list[str], tmp_path: Path) -> None:
    show = "--help" in command or "--cfg" in command
    trial = [] if show else ["debug=step", "logging.wandb.mode=disabled"]
    words = [sys.executable, "-m", "tser_lightning", *command, *trial]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert show or list(tmp_path.glob("runs/digits-*/result.json"))
