"""The page of losses: its own loss trains, and its table is that of the classes."""

import importlib
import re
from pathlib import Path

import pytest
import torch

from tser_lightning.api import build_loss
from tser_lightning.config.run import compose_run
from tser_lightning.losses import LossContext, Needs
from tser_lightning.registry.options import names
from tser_lightning.tasks.run_task import run_task

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "losses.md").read_text()


def rows() -> dict[str, list[str]]:
    lines = PAGE.split("## All losses")[1].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| `\w+` ", line)]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_the_loss_of_the_page_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(# my_focus.*?)```", PAGE, re.DOTALL)
    (tmp_path / "my_focus.py").write_text(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    torch.set_num_threads(1)
    (command,) = re.findall(r"python -m tser_lightning (.*_target_=my_focus.*)", PAGE)
    trial = ["teacher.weights=null", "debug=step", "logging.wandb.mode=disabled", "machine.accelerator=cpu"]
    run_task(compose_run([*command.split(), *trial]))
    (metrics,) = tmp_path.glob("runs/*/metrics.csv")
    assert {"train/ce", "train/where", "train/rate"} <= set(metrics.read_text().splitlines()[0].split(","))
    needs = importlib.import_module("my_focus").Focus.needs
    assert needs == Needs(("stage*",), ("stage4",), heads=True, progress=True)


def test_a_schedule_and_two_teachers_from_the_command_line_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = re.findall(r"```python\n(# my_parts.*?)```", PAGE, re.DOTALL)
    (command,) = re.findall(r"python -m tser_lightning (loss=custom loss._target_=my_parts.*)", PAGE)
    (tmp_path / "my_parts.py").write_text(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    torch.set_num_threads(1)
    trial = ["teacher.weights=null", "debug=step", "logging.wandb.mode=disabled", "machine.accelerator=cpu"]
    run_task(compose_run([*command.split(), *trial]))
    parts = importlib.import_module("my_parts")
    loss, logits = parts.warm_tser(warmup=0.2), (torch.randn(2, 3, 5), torch.randn(3, 5), torch.tensor([0, 1, 2]))
    weights = [loss(*logits, context=LossContext(progress=done)).weights["kl"] for done in (0.0, 0.1, 0.2, 0.9)]
    assert weights == pytest.approx([0.0, 0.25, 0.5, 0.5])
    images = torch.randn(4, 1, 8, 8)
    both = parts.two_teachers(10, 1).eval()
    torch.testing.assert_close(both(images), (both.members["wide"](images) + both.members["deep"](images)) / 2)
    assert "members.wide.conv1.weight" in both.state_dict()


def test_the_table_has_every_loss_and_says_what_it_needs() -> None:
    known = set(names("loss")) - {"custom"}
    assert set(rows()) == known
    for name in known:
        loss, says = build_loss(name), {word.strip() for word in rows()[name][3].split(",")} - {""}
        needs = getattr(loss, "needs", None) or Needs()
        found = {"teacher"} if loss.needs_teacher else set()
        found |= {"features"} if loss.student_taps or needs.student_features else set()
        found |= {word for word in ("currents", "heads", "progress") if getattr(needs, word)}
        assert says == found, name


@pytest.mark.parametrize("page", ["digits", "fashion_mnist"])
def test_a_page_of_measurements_has_every_loss_or_says_that_it_was_not_run(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text().split("## All losses")[-1]
    measured = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    left_out = re.findall(r"`(\w+)`", "".join(re.findall(r"^Not run: (.*?)\.$", text, re.DOTALL | re.MULTILINE)))
    assert sorted(measured + left_out) == sorted(set(names("loss")) - {"custom"})


def test_accuracies_of_the_digits_are_those_of_whole_images_of_five_seeds() -> None:
    lines = (DOCS / "digits.md").read_text().split("## All losses")[1].splitlines()
    for line in (line for line in lines if line.startswith("| `")):
        for cell in (line.split("|")[2], line.split("|")[6]):
            images = float(cell.split("+-")[0]) / 100 * 360 * 5
            assert abs(images - round(images)) <= 0.005 / 100 * 360 * 5 + 1e-9, line
