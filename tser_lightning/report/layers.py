"""Figures of what happens inside a student, layer by layer: `measures.json` of runs with measure=full.

    {"firing_by_layer": {layer: {"rate": percent, ...}}, "energy_by_layer": {layer: {"energy_mj": ...}},
     "cka": {layer: [[T x T]]}, "gradient_cosine": {layer: [[T x T]]}, "full_range": {"1": percent, ...}}

Layers are in the order of the network.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tser_lightning.report.cells import Comparisons
from tser_lightning.report.collect import RunRecord
from tser_lightning.report.drawing import (
    Figure,
    in_order,
    left_out,
    line_over,
    main_rows,
    panel_title,
    shown,
    slug,
)
from tser_lightning.report.labels import Label
from tser_lightning.report.style import COLUMN, PAGE, legend, look, panels, styled

MOST_NAMES = 40  # layers whose names can be read beside each other
MOST_MAPS = 5  # layers of a heat map

MATRICES = {
    "cka": (
        "Unbiased CKA between time steps",
        "Linear CKA between a layer's spikes at two time steps (supplement, Fig. 2), with the unbiased estimator of "
        "HSIC: about 0 where two steps have nothing in common. Runs measured before this estimator hold higher values.",
    ),
    "gradient_cosine": (
        "Cosine between the gradients of time steps",
        "Cosine between the gradients of the loss with respect to a layer's currents at two time steps (supplement, "
        "Fig. 1, which does not define it).",
    ),
}


@styled
def by_layer(comparisons: Comparisons) -> list[Figure]:
    """Draw firing rate and energy of every layer, and how alike its time steps are."""
    made = [
        (
            "firing_by_layer",
            "Firing rate of each layer",
            "spikes per neuron and step in %",
            _scalar("firing_by_layer", "rate"),
            "Mean of S over neurons, steps and test images.",
        ),
        (
            "energy_by_layer",
            "Energy of each layer",
            "\N{MICRO SIGN}J per image",
            _scalar("energy_by_layer", "energy_mj", factor=1e3),
            "By the paper's convention.",
        ),
        *(
            (key, title, "mean over pairs of steps", _off_diagonal(key), said)
            for key, (title, said) in MATRICES.items()
        ),
    ]
    drawn = [_lines(comparisons, column, *what) for what in made for column in comparisons.columns]
    return [figure for figure in drawn if figure is not None]


Reader = Callable[[RunRecord], dict[str, float]]


def _scalar(key: str, name: str, factor: float = 1) -> Reader:
    def read(record: RunRecord) -> dict[str, float]:
        layers = record.measures.get(key) or {}
        return {layer: factor * float(values[name]) for layer, values in layers.items() if values.get(name) is not None}

    return read


def _off_diagonal(key: str) -> Reader:
    def read(record: RunRecord) -> dict[str, float]:
        return {layer: mean_off_diagonal(np.asarray(m, float)) for layer, m in _matrices(record, key).items()}

    return read


def _matrices(record: RunRecord, key: str) -> dict[str, Any]:
    layers = record.measures.get(key) or {}
    return {layer: matrix for layer, matrix in layers.items() if len(matrix) > 1}


def mean_off_diagonal(matrix: NDArray[np.float64]) -> float:
    """Average a [T, T] matrix over pairs of different steps."""
    steps = len(matrix)
    return float((matrix.sum() - np.trace(matrix)) / (steps * (steps - 1)))


def _lines(
    comparisons: Comparisons, column: Label, key: str, title: str, unit: str, read: Reader, said: str
) -> Figure | None:
    found = {row: [(r, read(r)) for r in records] for row, records in shown(comparisons, column).items()}
    names = list(dict.fromkeys(layer for runs in found.values() for _, layers in runs for layer in layers))
    if not names:
        return None
    figure, (axes,) = panels(1, width=COLUMN if len(names) < 12 else PAGE, height=2.6)
    entries: dict[str, Any] = {}
    for row, runs in found.items():
        values = {record.path: layers for record, layers in runs if layers}
        line = {float(x): [r for r, layers in runs if name in layers] for x, name in enumerate(names)}
        line = {x: records for x, records in line.items() if records}
        if line:
            value = _read_at(values, names)
            entries[str(row)] = line_over(axes, line, value, look(row, main_rows(comparisons.grid)))
    if len(names) <= MOST_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
    axes.set(ylabel=unit, title=panel_title(comparisons, column))
    axes.set_xlabel("layer, from the image to the logits")
    legend(figure, in_order(comparisons, entries))
    caption = f"{said} Mean and one standard deviation over seeds.{left_out(comparisons, column)}"
    return Figure(f"{key}_{slug(column)}", f"{title}: {', '.join(column.parts)}", caption, figure)


def _read_at(values: Mapping[Any, Mapping[str, float]], names: Sequence[str]) -> Callable[[RunRecord, float], float]:
    return lambda record, x: values[record.path][names[int(x)]]


@styled
def step_maps(comparisons: Comparisons) -> list[Figure]:
    """Draw how alike every two time steps are: a row per method, some layers from first to last."""
    drawn = [_maps(comparisons, column, key) for key in MATRICES for column in comparisons.columns]
    return [figure for figure in drawn if figure is not None]


def _maps(comparisons: Comparisons, column: Label, key: str) -> Figure | None:
    found = {
        row: [matrices for record in records if (matrices := _matrices(record, key))]
        for row, records in shown(comparisons, column).items()
    }
    found = {row: runs for row, runs in found.items() if runs}
    if not found:
        return None
    layers = _spread_out(list(next(iter(found.values()))[0]))
    figure, places = panels(len(found) * len(layers), width=PAGE / MOST_MAPS, height=1.5, across=len(layers))
    image = None
    for index, axes in enumerate(places):
        row, layer = list(found)[index // len(layers)], layers[index % len(layers)]
        runs = [np.asarray(matrices[layer], float) for matrices in found[row] if layer in matrices]
        image = _map(axes, np.mean(runs, axis=0)) if runs else image
        if index < len(layers):
            axes.set_title(layer, fontsize=8)
        if index % len(layers) == 0:
            axes.set_ylabel(str(row))
    figure.colorbar(image, ax=places, shrink=0.6, label=MATRICES[key][0])
    caption = (
        f"{MATRICES[key][1]} Mean over seeds; some layers from the first to the last.{left_out(comparisons, column)}"
    )
    title = f"{MATRICES[key][0]}, pair by pair: {', '.join(column.parts)}"
    return Figure(f"{key}_maps_{slug(column)}", title, caption, figure)


def _spread_out(names: Sequence[str]) -> list[str]:
    places = np.unique(np.linspace(0, len(names) - 1, min(MOST_MAPS, len(names))).round().astype(int))
    return [names[place] for place in places]


def _map(axes: Any, matrix: NDArray[np.float64]) -> Any:
    # A layer that says the same for every image has no alignment: NaN, left blank.
    lowest = float(np.min(matrix, initial=0.0, where=np.isfinite(matrix)))
    image = axes.imshow(matrix, vmin=lowest, vmax=1, cmap="cividis")
    steps = len(matrix)
    axes.grid(visible=False)
    axes.set_xticks(range(steps), range(1, steps + 1), fontsize=7)
    axes.set_yticks(range(steps), range(1, steps + 1), fontsize=7)
    if steps <= 4:
        for (y, x), value in np.ndenumerate(matrix):
            ink = "black" if value > 0.6 else "white"
            if np.isfinite(value):
                axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=6, color=ink)
    return image
