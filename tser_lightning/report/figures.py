"""Figures of finished runs."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

from tser_lightning.report.table import Result

mpl.use("Agg")
from matplotlib import pyplot as plt


def accuracy_per_step(results: Sequence[Result], path: Path) -> None:
    """Draw what Fig. 2 of the TSER paper shows: bars per step, a line per method for the mean, one for the teacher.

    Args:
        results: Contents of result.json files with the same number of time steps, one per method.
        path: PNG to write.
    """
    steps = sum(f"test/acc_step{t}" in results[0] for t in range(1, 1000))
    places = np.arange(1, steps + 1)
    width = 0.8 / len(results)
    figure, axes = plt.subplots(figsize=(8.5, 4), layout="constrained")
    lowest = 100.0
    for index, result in enumerate(results):
        color = f"C{index}"
        alone = [result[f"test/acc_step{t}"] for t in places]
        lowest = min(lowest, *alone)
        offset = (index - (len(results) - 1) / 2) * width
        axes.bar(places + offset, alone, width * 0.95, color=color, alpha=0.75, label=f"{result['loss']}: step alone")
        mean = result["test/acc"]
        axes.axhline(mean, color=color, lw=1.5, label=f"{result['loss']}: mean of {steps} steps, {mean:.2f}")
    teacher = results[0].get("teacher/acc")
    if teacher is not None:
        axes.axhline(teacher, color="black", ls="--", lw=1.2, label=f"teacher, {teacher:.2f}")
    axes.set(xlabel="time step", ylabel="test accuracy in %", xticks=places)
    axes.set_ylim(max(0.0, lowest - 0.15 * (100 - lowest) - 1), 100)
    axes.set_title(f"{results[0]['data']}, seed {results[0]['seed']}", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", fontsize="small", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160)
    plt.close(figure)
