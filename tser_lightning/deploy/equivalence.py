"""Comparison of what an exported file computes with the student that it was made of.

Legend: T time step, B image, C class, M neurons of one layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tser_lightning.errors import RunError
from tser_lightning.measure.firing import named_modules
from tser_lightning.models import Student
from tser_lightning.neurons.neuron import Neuron

Array = NDArray[Any]
TOLERANCE = 1e-3
"""Of logits, as a share of the largest: two correct programs round differently."""
ROUNDED_IMAGES = 0.02
"""Share of images for which a spike may come at another step: a membrane that meets its threshold to the last bit."""


@dataclass(frozen=True)
class Computed:
    """Logits and spikes that a program gave for some images.

    Attributes:
        logits: Of all steps, [T, B, C].
        spikes: By the path of the neurons, bool [T, B, M]; empty if the program does not show them.
    """

    logits: Array
    spikes: Mapping[str, Array]


def seen_at(images: Tensor, step: int) -> Tensor:
    """Give the input of a step [B, C, H, W]: the images themselves, or the frame of [T, B, C, H, W]."""
    return images if images.ndim == 4 else images[step]


@torch.no_grad()
def computed_by(student: Student, images: Tensor) -> Computed:
    """Run the student itself, and listen to its neurons."""
    spikes: dict[str, Array] = {}

    def listen(path: str) -> Any:
        def keep(neuron: Neuron, _: Any, fired: Tensor) -> None:
            spikes[path] = (neuron.unfold(fired) != 0).flatten(2).numpy()

        return keep

    neurons = {path: module for path, module in named_modules(student).items() if isinstance(module, Neuron)}
    handles = [module.register_forward_hook(listen(path)) for path, module in neurons.items()]
    try:
        logits_TBC = student(images)
    finally:
        for handle in handles:
            handle.remove()
    return Computed(logits_TBC.numpy(), spikes)


def compared(expected: Computed, found: Computed) -> dict[str, Any]:
    """Compare two programs on the same images.

    Returns:
        `images`; `largest_difference` of logits and `largest_logit`; `other_classes`, the images whose class differs;
        `other_spikes`, by layer how many spikes differ, or None where they are not shown; `other_images`, the images
        with a spike that differs or a logit that differs by more than `TOLERANCE`; and `equal`.
    """
    shapes = found.logits.shape, expected.logits.shape
    if shapes[0] != shapes[1]:
        return {"images": shapes[1][1], "equal": False, "why": f"logits {list(shapes[0])} and not {list(shapes[1])}"}
    difference_TBC = np.abs(found.logits.astype(np.float64) - expected.logits)
    scale = float(np.abs(expected.logits).max())
    other_B = ~(difference_TBC.max((0, 2)) <= TOLERANCE * scale)  # NaN differs too
    classes_B = found.logits.mean(0).argmax(-1) != expected.logits.mean(0).argmax(-1)
    spikes: dict[str, int | None] = {}
    for path, fired in expected.spikes.items():
        theirs = found.spikes.get(path)
        if theirs is None or theirs.shape != fired.shape:
            spikes[path] = None
            continue
        spikes[path] = int((theirs != fired).sum())
        other_B |= (theirs != fired).any((0, 2))
    return {
        "images": len(other_B),
        "largest_difference": float(difference_TBC.max()),
        "largest_logit": scale,
        "other_classes": int(classes_B.sum()),
        "other_spikes": spikes,
        "other_images": int(other_B.sum()),
        "equal": bool(other_B.sum() <= ROUNDED_IMAGES * len(other_B)),
    }


def require_equal(proof: Mapping[str, Any], what: str, runner: str) -> None:
    """Raise a `RunError` if the programs are not the same but for rounding."""
    if proof["equal"]:
        return
    layers = [path for path, count in (proof.get("other_spikes") or {}).items() if count]
    first = f"; spikes differ from {layers[0]} on" if layers else ""
    reason = proof.get("why") or (
        f"{proof['other_images']} of {proof['images']} images differ, logits by up to "
        f"{proof['largest_difference']:.3g} of {proof['largest_logit']:.3g}{first}"
    )
    raise RunError(
        what=f"{what} does not compute what the student computes: {reason}",
        why=f"{runner} ran the written file on held-out images; the file is removed",
        fix="another format, or another version of what writes or runs it",
    )
