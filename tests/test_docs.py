"""The documentation's commands and Python, and the reference of settings."""

import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tser_lightning.cli.main import main
from tser_lightning.cli.reference import reference
from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import compose_run
from tser_lightning.sweep.combinations import jobs_of

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(page for place in ("*.md", "guides/*.md", "study/*.md") for page in DOCS.glob(place))
OWN = {"my_models.py": "from tser_lightning.models import resnet_small as my_net\n"}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands() -> Iterator[tuple[str, list[str]]]:
    """What follows `python -m tser_lightning` on every line that begins with it, without the comment."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            text = block.replace("\\\n", " ")
            for name, value in re.findall(r'^(\w+)="(.*)"$', block, re.MULTILINE):
                text = text.replace(f"${name}", value)
            for line in text.splitlines():
                if line.startswith("python -m tser_lightning"):
                    words = shlex.split(line.removeprefix("python -m tser_lightning"), comments=True)
                    yield f"{page.stem}: {' '.join(words)}", words


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds the modules which the pages speak of."""
    own = {re.match(r"# (\w+\.py)\n", block): block for page in PAGES for block in blocks(page, "python")}
    for name, text in [*((found[1], block) for found, block in own.items() if found), *OWN.items()]:
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("name", "words"), [pytest.param(name, words, id=name) for name, words in commands()])
def test_a_command_is_a_right_one(name: str, words: list[str], folder: Path, configs: Configs) -> None:
    if "--help" in words:
        return
    words = [word for word in words if word != "job"]
    folders = [DOCS.parent / after for flag, after in itertools.pairwise(words) if flag == "--config-dir"]
    configs = Configs(str(folders[0])) if folders else configs
    said = [re.sub(r"^(seed=\d+),.*", r"\1", word) for word in words if "=" in word and not word.startswith("hydra")]
    jobs = jobs_of(said, configs) if "-m" in words else [said]
    if any(word.startswith("sweep=") for word in said):
        jobs = [jobs[0], jobs[-1]]  # all of them are composed in test_combinations
    for job in jobs:
        compose_run(job, check_data=False, configs=configs)


def test_the_arrays_of_the_guide_are_a_prepared_set(folder: Path) -> None:
    (block,) = (block for block in blocks(DOCS / "guides" / "own_images.md", "python") if "write_prepared" in block)
    ended = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    run = compose_run(["data=prepared", "data.path=mine.safetensors"])
    assert (run.config["data"]["num_classes"], run.config["data"]["shape"]) == (3, [3, 16, 16])


def test_the_teacher_of_the_guide_is_built_by_its_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(folder)
    words = ["data=synthetic", "teacher=custom", "teacher._target_=my_teachers.my_resnet", "teacher.weights=null"]
    more = ["student=cnn_small", "debug=step", "machine.runs_dir=records", "logging.wandb.mode=disabled"]
    assert main([*words, *more]) == 0
    assert "the teacher is untrained" in caplog.text


def test_a_mistake_is_answered_as_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks(DOCS / "commands.md", "console")
    command, *answer = block.strip().splitlines()
    assert main(shlex.split(command.removeprefix("$ python -m tser_lightning"))) == 2
    assert capsys.readouterr().err.splitlines() == answer


COMMANDS = [words for name, words in commands() if name.startswith("commands:") and "task" not in " ".join(words)]


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_of_the_first_page_runs(words: list[str], folder: Path) -> None:
    show = "--help" in words or "--cfg" in words
    trial = [] if show else ["debug=step", "logging.wandb.mode=disabled"]
    ended = subprocess.run([sys.executable, "-m", "tser_lightning", *words, *trial], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert show or list(folder.glob("runs/digits-*/result.json"))


@pytest.mark.slow
def test_the_python_runs(folder: Path) -> None:
    (block,) = (block for block in blocks(DOCS / "api.md", "python") if "tl.train" in block)
    ended = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "'kl'" in ended.stdout


def test_the_reference_of_settings_is_that_of_the_declarations() -> None:
    page = (DOCS / "settings.md").read_text()
    assert page == reference(), "python -m tser_lightning.cli.reference > docs/settings.md"


def test_every_page_is_reached_from_the_navigation() -> None:
    listed = set(re.findall(r"[\w/]+\.md", (DOCS.parent / "mkdocs.yml").read_text()))
    assert {str(page.relative_to(DOCS)) for page in PAGES} == listed


def test_a_network_of_spikingjelly_on_the_page_is_computed_to_the_last_bit(folder: Path) -> None:
    pytest.importorskip("spikingjelly")
    (block,) = (
        block for block in blocks(DOCS / "guides" / "own_parts.md", "python") if "functional.reset_net(net)" in block
    )
    ended = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, cwd=folder)
    assert not ended.returncode, ended.stderr
