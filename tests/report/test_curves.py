from pathlib import Path

import numpy as np

from tser_lightning.report.cells import compare_methods
from tser_lightning.report.collect import collect
from tser_lightning.report.curves import over_seeds, training_curves
from tser_lightning.report.grid import make_grid

NAN = float("nan")


def test_a_band_is_the_mean_and_deviation_of_every_epoch() -> None:
    long = {"epoch": [0.0, 1.0, 2.0], "val/acc": [10.0, NAN, 30.0]}
    short = {"epoch": [0.0, 1.0], "val/acc": [20.0, NAN]}
    epochs, mean, std = over_seeds([long, short], "val/acc")
    np.testing.assert_array_equal(epochs, [1, 2, 3])
    np.testing.assert_array_equal(mean, [15, NAN, 30])
    np.testing.assert_allclose(std, [np.sqrt(50), 0, 0])


def test_accuracy_and_every_term_have_a_panel_with_a_line_per_method(runs: Path) -> None:
    (figure,) = training_curves(compare_methods(make_grid(collect(runs / "*"))))
    titles = [axes.get_title(loc="left") for axes in figure.canvas.axes]
    assert titles == [
        "validation accuracy in %",
        "training loss",
        "training cross-entropy",
        "training KL to the teacher",
    ]
    for axes in figure.canvas.axes:
        assert len(axes.lines) == 5
        assert len(axes.collections) == 5  # bands
        assert list(axes.lines[0].get_xdata()) == list(range(1, 11))
