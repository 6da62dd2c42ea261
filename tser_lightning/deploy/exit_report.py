"""Measures of an early exit: accuracy, steps, energy and latency beside those of all steps.

Legend: T time step, B image, C class.
"""

import time
from collections.abc import Iterable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from tser_lightning.deploy.early_exit import Exit, predict
from tser_lightning.measure import OperationCounter, student_energy
from tser_lightning.measure.exit_curve import ExitCurve
from tser_lightning.models import Student

TIMED_IMAGES, REPEATS = 50, 3


@torch.no_grad()
def logits_of(student: Student, loader: Iterable[Any]) -> tuple[Tensor, Tensor]:
    """Compute logits_TBC and labels_B of a whole split."""
    found = [(student(batch.images), batch.labels) for batch in loader]
    return torch.cat([logits for logits, _ in found], 1), torch.cat([labels for _, labels in found])


def measure_exit(student: Student, rule: Exit, loader: Iterable[Any]) -> dict[str, Any]:
    """Compare an early exit with the full run on a split.

    Returns:
        `accuracy` and `accuracy_full` (percent), `mean_steps`, `timesteps`, `share_at_step` (percent of the images that
        stop at each step), `energy_mj` and `energy_full_mj` per image (`measure.energy.ASSUMPTIONS`; those that stop at
        a step are counted as a run of so many steps), `latency_ms` and `latency_full_ms` (median over single images,
        on this machine), `batch_ms` and `batch_full_ms` (per image in a batch of `batch_size`), and `curve`: mean steps
        and accuracy at every threshold.
    """
    batches = list(loader)
    labels_B = torch.cat([batch.labels for batch in batches])
    found = [predict(student, batch.images, rule) for batch in batches]
    full_TBC, _ = logits_of(student, batches)
    curve = ExitCurve(rule.temperatures)
    curve.update(full_TBC, labels_B)
    classes_B, steps_B = (torch.cat([getattr(each, name) for each in found]) for name in ("classes", "steps"))
    images = torch.cat([batch.images for batch in batches], 1 if batches[0].images.ndim == 5 else 0)
    return {
        "accuracy": _percent(classes_B == labels_B),
        "accuracy_full": _percent(full_TBC.mean(0).argmax(-1) == labels_B),
        "mean_steps": float(steps_B.float().mean()),
        "timesteps": len(full_TBC),
        "share_at_step": [_percent(steps_B == step) for step in range(1, len(full_TBC) + 1)],
        "energy_mj": _energy(student, images, steps_B),
        "energy_full_mj": _energy(student, images, torch.full_like(steps_B, len(full_TBC))),
        **_latency(student, images, rule),
        "curve": curve.points(),
    }


def _percent(which_B: Tensor) -> float:
    return 100 * float(which_B.float().mean())


def _energy(student: Student, images: Tensor, steps_B: Tensor) -> float:
    """Energy per image in mJ, each image run for its own number of steps."""
    frames, trained, total = images.ndim == 5, student.timesteps, 0.0
    try:
        for steps in steps_B.unique().tolist():
            chosen = steps_B == steps
            some = images[:steps, chosen] if frames else images[chosen]
            student.timesteps = trained if frames else steps
            with OperationCounter(student) as counter, torch.no_grad():
                student(some)
            total += int(chosen.sum()) * student_energy(counter.compute())["energy_mj"]
    finally:
        student.timesteps = trained
    return total / len(steps_B)


def _latency(student: Student, images: Tensor, rule: Exit) -> dict[str, Any]:
    """Milliseconds per image: one at a time, and in a batch."""
    axis = 1 if images.ndim == 5 else 0
    batch = images.narrow(axis, 0, min(TIMED_IMAGES, images.shape[axis]))
    singles = batch.split(1, axis)
    times: dict[str, Any] = {"batch_size": batch.shape[axis]}
    for name, used in (("", rule), ("_full", None)):
        predict(student, singles[0], used)  # what is made at the first call is not timed
        times[f"latency{name}_ms"] = median(_milliseconds(student, one, used) for one in singles)
        whole = median(_milliseconds(student, batch, used) for _ in range(REPEATS))
        times[f"batch{name}_ms"] = whole / batch.shape[axis]
    return times


def _milliseconds(student: Student, images: Tensor, rule: Exit | None) -> float:
    begin = time.perf_counter()
    predict(student, images, rule).classes.tolist()  # waits for the device
    return 1000 * (time.perf_counter() - begin)
