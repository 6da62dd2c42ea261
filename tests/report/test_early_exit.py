import json
from collections.abc import Callable
from pathlib import Path

from tser_lightning.report.cells import compare_methods
from tser_lightning.report.collect import collect
from tser_lightning.report.early_exit import early_exit
from tser_lightning.report.grid import make_grid

Build = Callable[..., Path]


def test_the_curves_of_seeds_are_averaged_threshold_by_threshold(runs: Path) -> None:
    for seed, path in enumerate(sorted(runs.glob("*tser*"))):
        points = [
            {"threshold": 1.0, "mean_steps": 3.0 + seed, "accuracy": 97.0},
            {"threshold": 0.0, "mean_steps": 1.0, "accuracy": 90.0 + 3 * seed},
        ]
        (path / "measures.json").write_text(json.dumps({"early_exit": points}))
    (figure,) = early_exit(compare_methods(make_grid(collect(runs / "*"))))
    (axes,) = figure.canvas.axes
    (line,) = axes.lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([4.0, 1.0], [97.0, 93.0])
    heights = {round(float(y), 6) for y in axes.collections[0].get_paths()[0].vertices[:, 1]}
    assert heights == {97.0, 90.0, 96.0}  # a standard deviation of 0 at all steps, of 3 at one
    assert axes.get_xlabel() == "mean time steps of an image"


def test_there_is_no_figure_where_it_was_not_measured(runs: Path) -> None:
    assert early_exit(compare_methods(make_grid(collect(runs / "*")))) == []


def test_a_long_setting_stands_above_its_panel_and_inside_the_figure(build: Build, tmp_path: Path) -> None:
    setting = {"student.attention": "temporal_channel", "data.augment.policy": "randaugment_with_two_operations"}
    for seed in (1, 2):
        path = build("tser", seed, **setting)
        points = [{"threshold": 0.5, "mean_steps": steps, "accuracy": 90.0} for steps in (3.0, 1.0)]
        (path / "measures.json").write_text(json.dumps({"early_exit": points}))
    build("tser", 1)
    (figure,) = early_exit(compare_methods(make_grid(collect(tmp_path / "runs" / "*"))))
    figure.canvas.draw_without_rendering()
    (axes,) = figure.canvas.axes
    title = axes._left_title
    assert "randaugment_with_two_operations" in title.get_text().replace("\n", " ")
    assert title.get_window_extent().x1 <= figure.canvas.bbox.x1
