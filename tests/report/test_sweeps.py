from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from tser_lightning.config.hydra_internal import BasicSweeper
from tser_lightning.config.hydra_loader import Configs
from tser_lightning.report.cells import compare_methods
from tser_lightning.report.collect import collect
from tser_lightning.report.grid import make_grid
from tser_lightning.report.sweeps import sweeps
from tser_lightning.sweep.combinations import jobs_of

Build = Callable[..., Path]
CONF = Path(__file__).parents[2] / "conf"


def test_lambda_is_drawn_over_its_values_with_the_default_among_them(build: Build, tmp_path: Path) -> None:
    for seed in (1, 2):
        build("vanilla_kd", seed)
        build("tser", seed)  # lam is at its default, which no result names
        for lam in (0.0001, 0.1):
            build("tser", seed, **{"loss.lam": lam})
    (figure,) = sweeps(compare_methods(make_grid(collect(tmp_path / "runs" / "*"))))
    assert figure.name == "fig3_lambda"
    (axes,) = figure.canvas.axes
    line = next(line for line in axes.lines if line.get_marker() == "o")
    assert list(line.get_xdata()) == [0.0001, 0.01, 0.1]
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in figure.canvas.legends[0].get_texts()] == ["TSER", "Vanilla KD (not swept)"]


def test_time_steps_are_drawn_for_every_method_and_data(build: Build, tmp_path: Path) -> None:
    for loss in ("vanilla_kd", "tser"):
        for steps in (2, 4):
            build(loss, 1, steps=steps)
            build(loss, 1, steps=steps, data="cifar10", experiment="cifar10_r18_t2")
    (figure,) = sweeps(compare_methods(make_grid(collect(tmp_path / "runs" / "*"))))
    assert figure.name == "timesteps"
    assert [axes.get_title(loc="left") for axes in figure.canvas.axes] == [
        "CIFAR-10, ResNet (small)",
        "Digits, ResNet (small)",
    ]
    for axes in figure.canvas.axes:
        assert {tuple(line.get_xdata()) for line in axes.lines if line.get_marker() in "os"} == {(2.0, 4.0)}


def test_without_a_sweep_there_is_no_figure(runs: Path) -> None:
    assert sweeps(compare_methods(make_grid(collect(runs / "*")))) == []


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONF / "sweep").glob("*.yaml")))
def test_a_sweep_file_is_what_hydra_sweeps(name: str) -> None:
    file = CONF / "sweep" / f"{name}.yaml"
    assert file.read_text().startswith("# @package _global_\n")
    content = yaml.safe_load(file.read_text())
    params = content.get("hydra", {}).get("sweeper", {}).get("params", {})
    overrides = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    (jobs,) = BasicSweeper.split_arguments(overrides, None)
    assert len(jobs) == len(jobs_of([f"sweep={name}"], Configs()))
    losses = {text.partition("=")[2] for job in jobs for text in job if text.startswith("loss=")}
    assert all((CONF / "loss" / f"{loss}.yaml").is_file() for loss in losses)
