"""What `make demo` runs: three losses on digits, one table, one figure."""

import logging
from pathlib import Path

from rich.console import Console

from tser_lightning.api import train
from tser_lightning.cli.main import guarded
from tser_lightning.report.figures import accuracy_per_step
from tser_lightning.report.table import steps_table

LOSSES = ("ce", "vanilla_kd", "tser")
FIGURE = Path("runs", "demo.png")
NEXT = """
One seed of a small net: see the spread with more of them, and compare losses and settings, with
  python -m tser_lightning -m loss=ce,vanilla_kd,tser seed=1,2,3,4,5
  python -m tser_lightning loss=tser loss.lam=0.05 student.timesteps=2
  python -m tser_lightning --help"""


def demo() -> int:
    """Distil the digits student with each loss; finished runs are taken as they are."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    results = [train("digits", [f"loss={loss}"]) for loss in LOSSES]
    accuracy_per_step(results, FIGURE)
    console = Console()
    console.print(steps_table(results))
    console.print(f"figure: {FIGURE}", NEXT, sep="\n", markup=False, highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(guarded(demo))
