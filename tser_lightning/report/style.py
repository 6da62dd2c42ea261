"""How figures look: a colour and a marker per method, the same in every figure, told apart without colour too."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import matplotlib as mpl
from matplotlib import colors as mpl_colors
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from tser_lightning.durable import replacing
from tser_lightning.report.labels import LOSSES, Label

# Okabe and Ito (2008) and Tol's muted scheme: both are made for colour-blind readers.
COLORS = {
    "tser": ("#d55e00", "o"),
    "vanilla_kd": ("#0072b2", "s"),
    "ts": ("#009e73", "^"),
    "ts_ce": ("#e69f00", "v"),
    "ts_kl": ("#56b4e9", "D"),
    "vanilla_kd_er": ("#cc79a7", "P"),
    "ce": ("#7f7f7f", "X"),
    "tet": ("#a08050", "p"),
    "kdsnn": ("#aa3377", "<"),
    "lasnn": ("#999933", ">"),
    "bkdsnn": ("#44aa99", "h"),
}
OWN_LOSSES = (("#332288", "d"), ("#ddaa33", "8"), ("#aa4499", "*"), ("#117733", "H"))
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
    "figure.dpi": 100,
    "font.size": 10,
    "grid.alpha": 0.35,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.fontsize": "small",
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "tser_lightning",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}

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
        row: The method.
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
    aim, share = ((1.0, 1.0, 1.0), 0.55 * (1 - 2 * place)) if place < 0.5 else ((0.0, 0.0, 0.0), 1.1 * (place - 0.5))
    red, green, blue = (part + share * (end - part) for part, end in zip(red_green_blue, aim, strict=True))
    return mpl_colors.to_hex((red, green, blue))


def panels(count: int, *, width: float = 4.6, height: float = 3.4, across: int = 2) -> tuple[Any, list[Any]]:
    """Make a figure with a number of panels, at most `across` in a row.

    Args:
        count: How many.
        width: Of one panel, in inches.
        height: Of one panel, in inches.
        across: How many beside each other.

    Returns:
        The figure and its axes, one per panel.
    """
    across = min(count, across)
    down = -(-count // across)
    layout: Any = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.09)
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
    columns = max(1, min(len(entries), int(width / (0.6 + 0.085 * longest))))
    lines = -(-len(entries) // columns) + bool(title)
    figure.set_size_inches(width, height + 0.22 * lines)
    figure.legend(
        entries.values(), entries.keys(), loc="outside upper left", ncols=columns, title=title or None, alignment="left"
    )


@styled
def save(figure: Any, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG and SVG.

    Returns:
        The two files.
    """
    files = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    for file in files:
        metadata = {"Date": None} if file.suffix == ".svg" else {}  # the same runs give the same bytes
        with replacing(file) as beside:
            figure.savefig(beside, format=file.suffix[1:], dpi=160, metadata=metadata)
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
