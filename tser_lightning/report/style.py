"""How figures look: a colour and a marker per method, the same in every figure, told apart without colour too."""

import functools
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import matplotlib as mpl
from matplotlib import colors as mpl_colors
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from tser_lightning.atomic_io import replacing
from tser_lightning.report.labels import LOSSES, Label

# After Okabe and Ito (2008) and Tol's muted scheme, made for colour-blind readers; all of a lightness that stands out
# by 3:1 from white paper and from a dark page.
COLORS = {
    "tser": ("#d55e00", "o"),
    "vanilla_kd": ("#0072b2", "s"),
    "ts": ("#009e73", "^"),
    "ts_ce": ("#b07a00", "v"),
    "ts_kl": ("#3a92c8", "D"),
    "vanilla_kd_er": ("#c2669a", "P"),
    "ce": ("#7f7f7f", "X"),
    "tet": ("#9a7a4a", "p"),
    "kdsnn": ("#b8438a", "<"),
    "lasnn": ("#8a8a2c", ">"),
    "bkdsnn": ("#349584", "h"),
}
OWN_LOSSES = (("#6f62cc", "d"), ("#a8801f", "8"), ("#b04fa0", "*"), ("#1f8a45", "H"))
INK = "#1a1a1a"
FAINT = "#8c8c8c"
INK_IN_PAGE = "currentColor"
MARKERS = "osv^D<>Pph*X8dH"

STYLE: Any = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "axes.linewidth": 0.6,
    "figure.dpi": 100,
    "font.size": 8,
    "grid.alpha": 0.35,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.fontsize": "medium",
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,  # fonts that a publisher can embed
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "tser_lightning",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}

logging.getLogger("fontTools").setLevel(logging.ERROR)  # it warns of the dates of matplotlib's own fonts

Look = dict[str, Any]
Drawer = TypeVar("Drawer", bound=Callable[..., Any])


def styled(draw: Drawer) -> Drawer:
    """Make a function draw in our style, which matplotlib reads while it draws."""

    @functools.wraps(draw)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return inside  # type: ignore[return-value]


def look(row: Label, rows: Sequence[Label]) -> Look:
    """Give the colour and marker of a method.

    Args:
        row: The label of the method.
        rows: All methods of the comparison; several with the same loss get shades of its colour.
    """
    loss = str(row.get("loss"))
    color, marker = COLORS.get(loss) or _own(loss, rows)
    kin = [other for other in rows if other.get("loss") == row.get("loss")]
    if len(kin) > 1:
        place = kin.index(row)
        color = _shade(color, place / (len(kin) - 1))
        marker = MARKERS[place % len(MARKERS)]
    return {"color": color, "marker": marker}


def _own(loss: str, rows: Sequence[Label]) -> tuple[str, str]:
    foreign = sorted({str(row.get("loss")) for row in rows} - set(LOSSES))
    return OWN_LOSSES[foreign.index(loss) % len(OWN_LOSSES)]


def _shade(color: str, place: float) -> str:
    """Go from a light to a dark shade of a colour; its own is in the middle."""
    red_green_blue = mpl_colors.to_rgb(color)
    aim, share = ((1.0, 1.0, 1.0), 0.3 * (1 - 2 * place)) if place < 0.5 else ((0.0, 0.0, 0.0), 0.5 * (place - 0.5))
    red, green, blue = (part + share * (end - part) for part, end in zip(red_green_blue, aim, strict=True))
    return mpl_colors.to_hex((red, green, blue))


COLUMN, PAGE = 3.25, 6.875  # inches: a column and a page of two columns in CVPR


def panels(count: int, *, width: float = COLUMN, height: float = 2.3, across: int = 2) -> tuple[Any, list[Any]]:
    """Make a figure with a number of panels, at most `across` in a row.

    Args:
        count: Number of panels.
        width: Of one panel, in inches.
        height: Of one panel, in inches.
        across: How many beside each other.

    Returns:
        The figure and its axes, one per panel.
    """
    across = min(count, across)
    down = -(-count // across)
    layout: Any = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05)
    figure = Figure(figsize=(across * width, down * height), layout=layout)  # not pyplot's, which would keep it
    axes = figure.subplots(down, across, squeeze=False)
    flat = list(axes.flat)
    for spare in flat[count:]:
        spare.remove()
    return figure, flat[:count]


def legend(figure: Any, entries: Mapping[str, Any], title: str = "") -> None:
    """Put one legend for all panels above them, where it hides nothing and a narrow screen shows it."""
    width, height = figure.get_size_inches()
    longest = max(map(len, entries), default=0)
    columns = max(1, min(len(entries), int(width / (0.5 + 0.062 * longest))))
    lines = -(-len(entries) // columns) + bool(title)
    figure.set_size_inches(width, height + 0.17 * lines)
    figure.legend(
        entries.values(), entries.keys(), loc="outside upper left", ncols=columns, title=title or None, alignment="left"
    )


DATES = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


@styled
def save(figure: Any, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG, SVG and PDF, as wide as a column of a paper or its page, with text of 8 points.

    Returns:
        The three files.
    """
    files = [folder / f"{name}.{kind}" for kind in ("png", "svg", "pdf")]
    for file in files:
        metadata = DATES.get(file.suffix, {})  # the same runs give the same bytes
        with replacing(file) as beside:
            figure.savefig(beside, format=file.suffix[1:], dpi=240, metadata=metadata)
    return files


def inline_svg(file: Path) -> str:
    """Make an SVG file fit to stand in a page: its ink takes the colour of the page's text, its paper none."""
    text = file.read_text(encoding="utf-8")
    text = text[text.index("<svg") :].replace(INK, INK_IN_PAGE)
    text = re.sub(r'(<g id="patch_1">\s*<path[^>]*style=")fill: white"', r'\1fill: none"', text)
    text = re.sub(r'(<g id="patch_1">\s*<path[^>]*style=")fill: #ffffff"', r'\1fill: none"', text)
    stem = re.sub(r"\W", "_", file.stem)
    text = re.sub(r'\bid="', f'id="{stem}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\1{stem}-", text)
    return re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
