from pathlib import Path

from PIL import Image

from tser_lightning.report.figures import accuracy_per_step

RESULT = {"loss": "tser", "data": "digits", "seed": 1, "teacher/acc": 98.5, "test/acc": 97.0}
RESULT |= {"test/acc_step1": 90.0, "test/acc_step2": 95.5}


def test_the_figure_is_drawn_with_a_color_per_method(tmp_path: Path) -> None:
    file = tmp_path / "figures" / "steps.png"
    accuracy_per_step([RESULT, {**RESULT, "loss": "ce", "test/acc": 91.0}], file)
    with Image.open(file) as image:
        assert image.width > 900
        colors = {color for _, color in image.convert("RGB").getcolors(maxcolors=1 << 24) or []}
    assert {(31, 119, 180), (255, 127, 14)} <= colors  # the lines of the two methods
