from pathlib import Path

from PIL import Image

from tser_lightning.report.cells import Comparisons, compare_methods
from tser_lightning.report.collect import collect
from tser_lightning.report.figures import accuracy_per_step, any_time, energy, full_range, steps
from tser_lightning.report.grid import make_grid

RESULT = {"loss": "tser", "data": "digits", "seed": 1, "teacher/acc": 98.5, "test/acc": 97.0}
RESULT |= {"test/acc_step1": 90.0, "test/acc_step2": 95.5}
COLORS = {"tser": (213, 94, 0), "vanilla_kd": (0, 114, 178), "ce": (127, 127, 127)}


def colors_of(file: Path) -> set[object]:
    with Image.open(file) as image:
        assert image.width > 700
        return {color for _, color in image.convert("RGB").getcolors(maxcolors=1 << 24) or []}


def comparisons_of(runs: Path) -> Comparisons:
    return compare_methods(make_grid(collect(runs / "*")))


def test_the_figure_of_single_results_has_a_fixed_color_per_method(tmp_path: Path) -> None:
    file = tmp_path / "figures" / "steps.png"
    accuracy_per_step([RESULT, {**RESULT, "loss": "ce", "test/acc": 91.0, "teacher/acc": None}], file)
    assert {COLORS["tser"], COLORS["ce"]} <= colors_of(file)
    assert COLORS["vanilla_kd"] not in colors_of(file)


def test_fig_2_shows_the_mean_over_seeds_at_every_step(runs: Path) -> None:
    (figure,) = steps(comparisons_of(runs))
    assert figure.name == "fig2_steps_digits_resnet_small_T_4"
    assert "2 to 3 seeds" in figure.caption
    (axes,) = figure.canvas.axes
    drawn = [[bar.get_height() for bar in bars] for bars in axes.containers if hasattr(bars, "patches")]
    found = [record for record in collect(runs / "*tser*") if record.finished]
    expected = [sum(record.numbers[f"test/acc_step{step}"] for record in found) / 3 for step in range(1, 5)]
    assert any(all(abs(a - b) < 1e-9 for a, b in zip(heights, expected, strict=True)) for heights in drawn)
    assert len(drawn) == 5
    lines = [float(line.get_ydata()[0]) for line in axes.lines if len(set(line.get_ydata())) == 1]
    assert any(abs(y - sum(record.numbers["test/acc"] for record in found) / 3) < 1e-9 for y in lines)
    assert [text.get_text() for text in figure.canvas.legends[0].get_texts()][-1] == "teacher"


def test_accuracy_at_any_time_goes_beyond_training_where_it_was_measured(runs: Path) -> None:
    tser = next(iter(sorted(runs.glob("*tser*"))))
    (tser / "measures.json").write_text('{"full_range": {"1": 90, "2": 92, "8": 96.5}}')
    record = next(record for record in collect(runs / "*") if record.path == tser)
    assert full_range(record) == {1: 90.0, 2: 92.0, 8: 96.5}
    (figure,) = any_time(comparisons_of(runs))
    assert max(max(line.get_xdata()) for line in figure.canvas.axes[0].lines if line.get_marker() == "o") == 8


def test_energy_stands_against_accuracy_with_the_teacher_beside(runs: Path) -> None:
    (figure,) = energy(comparisons_of(runs))
    stars = [line for line in figure.canvas.axes[0].lines if line.get_marker() == "*"]
    assert [(float(star.get_xdata()[0]), float(star.get_ydata()[0])) for star in stars] == [(0.023e-3, 98.5)]
