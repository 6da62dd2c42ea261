import json
import re
from pathlib import Path

import numpy as np
import pytest

from tser_lightning.report.cells import Comparisons, compare_methods
from tser_lightning.report.collect import collect
from tser_lightning.report.grid import make_grid
from tser_lightning.report.layers import by_layer, mean_off_diagonal, step_maps

LAYERS = ["stem", "layer1", "layer2"]


def comparisons_of(runs: Path) -> Comparisons:
    return compare_methods(make_grid(collect(runs / "*")))


@pytest.fixture
def measured(runs: Path) -> Path:
    for place, path in enumerate(sorted(runs.glob("*tser*"))):
        matrices = {layer: [[1.0, 0.5 + 0.1 * place], [0.5 + 0.1 * place, 1.0]] for layer in LAYERS}
        content = {
            "firing_by_layer": {layer: {"rate": 10.0 + place, "neurons": 64} for layer in LAYERS},
            "energy_by_layer": {layer: {"energy_mj": 0.001} for layer in LAYERS},
            "cka": matrices,
            "gradient_cosine": {**matrices, "logits": [[1.0, 1.0], [1.0, 1.0]]},
        }
        (path / "measures.json").write_text(json.dumps(content))
    return runs


def test_every_layer_stands_in_order_with_its_mean_over_seeds(measured: Path) -> None:
    figures = {figure.name.partition("_digits")[0]: figure for figure in by_layer(comparisons_of(measured))}
    assert list(figures) == ["firing_by_layer", "energy_by_layer", "cka", "gradient_cosine"]
    (axes,) = figures["firing_by_layer"].canvas.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == LAYERS
    (line,) = [line for line in axes.lines if line.get_marker() == "o"]
    assert list(line.get_ydata()) == [11.0, 11.0, 11.0]  # 10, 11 and 12
    (axes,) = figures["energy_by_layer"].canvas.axes
    assert axes.get_ylabel() == "\N{MICRO SIGN}J per image"
    (line,) = [line for line in axes.lines if line.get_marker() == "o"]
    assert list(line.get_ydata()) == [1.0, 1.0, 1.0]
    (axes,) = figures["gradient_cosine"].canvas.axes
    (line,) = [line for line in axes.lines if line.get_marker() == "o"]
    assert list(line.get_ydata()) == pytest.approx([0.6, 0.6, 0.6, 1.0])


def test_maps_show_the_mean_matrix(measured: Path) -> None:
    cka, gradients = step_maps(comparisons_of(measured))
    assert (cka.name, len(cka.canvas.axes)) == ("cka_maps_digits_resnet_small_T_4", 3 + 1)  # and the color bar
    assert len(gradients.canvas.axes) == 4 + 1
    shown = np.asarray(cka.canvas.axes[0].images[0].get_array())
    assert shown == pytest.approx(np.array([[1.0, 0.6], [0.6, 1.0]]))


def test_without_measures_there_is_no_figure(runs: Path) -> None:
    assert by_layer(comparisons_of(runs)) == []
    assert step_maps(comparisons_of(runs)) == []


def test_the_mean_over_pairs_leaves_the_diagonal_out() -> None:
    assert mean_off_diagonal(np.array([[1.0, 0.2, 0.4], [0.2, 1.0, 0.6], [0.4, 0.6, 1.0]])) == pytest.approx(0.4)


def test_a_dead_layer_leaves_a_gap(measured: Path) -> None:
    for path in measured.glob("*tser*"):
        text = (path / "measures.json").read_text()
        (path / "measures.json").write_text(
            re.sub(r'"layer1": \[\[.*?\]\]', '"layer1": [[NaN, NaN], [NaN, NaN]]', text)
        )
    figures = {figure.name.partition("_digits")[0]: figure for figure in by_layer(comparisons_of(measured))}
    (line,) = [line for line in figures["cka"].canvas.axes[0].lines if line.get_marker() == "o"]
    assert list(line.get_xdata()) == [0, 2]
    cka, _ = step_maps(comparisons_of(measured))
    assert [len(axes.texts) for axes in cka.canvas.axes[:3]] == [4, 0, 4]
