import pytest

from tser_lightning.report.labels import Label
from tser_lightning.report.style import COLORS, FAINT, OWN_LOSSES, look

PAPER, PAGE = "#f6f7f9", "#1e2125"  # --card of the page, in light and in dark


def luminance(color: str) -> float:
    """Relative luminance by WCAG 2.1."""
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("color", [*(color for color, _ in (*COLORS.values(), *OWN_LOSSES)), FAINT])
def test_every_line_stands_out_from_paper_and_from_a_dark_page(color: str) -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast(color, PAPER) >= 3
    assert contrast(color, PAGE) >= 3


def test_shades_of_a_loss_are_told_apart_by_their_markers() -> None:
    rows = [Label(("loss", "loss.lam"), ("tser", lam)) for lam in (0.001, 0.01, 0.1)]
    assert len({look(row, rows)["marker"] for row in rows}) == 3
