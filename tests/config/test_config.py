import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tser_lightning.cli.help import help_text
from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import compose_run
from tser_lightning.registry.places import folder as find

Refused = Callable[..., list[tuple[str, str, str]]]
CHECKOUT = Path(__file__).parents[2]


def test_files_are_found_in_a_checkout() -> None:
    assert find("conf") == CHECKOUT / "conf"
    assert find("experiments") == CHECKOUT / "experiments"


def test_a_wheels_files_come_before_what_lies_beside_the_package(folder: Path) -> None:
    package = folder / "site" / "tser_lightning"
    (package / "_data" / "conf").mkdir(parents=True)
    (folder / "site" / "conf").mkdir()
    (folder / "site" / "experiments").mkdir()
    assert find("conf", package) == package / "_data" / "conf"
    assert find("experiments", package) == folder / "site" / "experiments"


def test_the_program_works_from_a_wheels_layout(folder: Path) -> None:
    package = folder / "site" / "tser_lightning"
    shutil.copytree(CHECKOUT / "tser_lightning", package, ignore=shutil.ignore_patterns("__pycache__", "_data"))
    for name in ("conf", "experiments"):
        shutil.copytree(CHECKOUT / name, package / "_data" / name)
    (package / "_data" / "conf" / "loss" / "wheel_only.yaml").write_text("_target_: tser_lightning.losses.None\n")
    ended = subprocess.run(
        [sys.executable, "-m", "tser_lightning", "loss=wheel_only", "--cfg", "job", "--package", "loss"],
        env=os.environ | {"PYTHONPATH": str(folder / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout == "_target_: tser_lightning.losses.None\n"


def test_the_users_experiments_come_before_the_packages(folder: Path) -> None:
    (folder / "experiments").mkdir()
    (folder / "experiments" / "digits.yaml").write_text("# @package _global_\nseed: 77\n")
    (folder / "experiments" / "mine.yaml").write_text("seed: 78\n")
    configs = Configs()
    assert {"digits", "fashion_mnist", "mine"} <= set(configs.options("experiment"))
    assert configs.compose().config.seed == 77
    assert configs.compose(["experiment=mine"]).config.seed == 78
    assert configs.text("experiment", "mine") == "seed: 78\n"


def test_choices_alone_leave_the_experiments_settings_out(folder: Path) -> None:
    (folder / "experiments").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /loss: ce\nseed: 78\n"
    (folder / "experiments" / "mine.yaml").write_text(text)
    composed = Configs().compose(["experiment=mine"], whole=False)
    assert (composed.config.seed, composed.choices["loss"]) == (1, "ce")


def test_published_numbers_are_no_experiment(configs: Configs) -> None:
    assert "paper" not in configs.options("experiment")


def test_what_is_composed_belongs_to_the_caller(configs: Configs) -> None:
    configs.compose().config.seed = 99
    assert configs.compose().config.seed == 1


def test_composing_leaves_hydra_free_for_others(configs: Configs) -> None:
    from hydra.core.global_hydra import GlobalHydra

    configs.compose()
    assert not GlobalHydra.instance().is_initialized()


def at_a_site(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (folder / "etc").mkdir()
    (folder / "etc" / "site.yaml").write_text(text)
    monkeypatch.setenv("TSER_CONFIG_DIR", str(folder / "etc"))


def test_a_site_has_defaults_of_its_own_below_experiments_and_commands(
    folder: Path, monkeypatch: pytest.MonkeyPatch, configs: Configs
) -> None:
    plain = compose_run([], configs=configs)
    text = "machine: {runs_dir: /scratch/me, workers: 3, threads: 9}\nlogging: {wandb: {project: ours}}\n"
    at_a_site(folder, monkeypatch, text)
    run = compose_run(["machine.workers=1"], check_data=False, configs=configs)
    assert run.config["machine"]["runs_dir"] == "/scratch/me"
    assert run.config["machine"]["workers"] == 1
    assert run.config["machine"]["threads"] == 1  # experiment=digits says so
    assert run.config["logging"]["wandb"]["project"] == "ours"
    assert run.given == {"machine.workers": 1}
    assert run.name == plain.name
    assert f"{folder}/etc/site.yaml" in help_text(configs)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("machine: {worker: 3}", "sets machine.worker, which is no setting of machine or logging"),
        ("machine: {workers: many}", "sets machine.workers=many, which is not"),
        ("loss: {lam: 0.1}", "sets loss.lam, which is no setting of machine or logging"),
        ("- machine", "holds no settings by name"),
        ("machine: {", "cannot be read"),
    ],
)
def test_a_site_file_that_says_something_else_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused, text: str, said: str
) -> None:
    at_a_site(folder, monkeypatch, text)
    ((what, _, fix),) = refused("loss=ce")
    assert f"site.yaml {said}" in what
    assert "runs_dir" in fix
