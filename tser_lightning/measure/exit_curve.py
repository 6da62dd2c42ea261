"""Accuracy against mean steps, where each image stops at the first step at which a student is sure.

Legend: K threshold, T time step, B image, C class.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tser_lightning.measure.accuracy import is_correct, mean_of_first

THRESHOLDS = tuple(1 - 2 ** (-j / 4) for j in range(80, -1, -1))  # from nearly 1 to 0: before any image is seen


def exit_steps(confidence_TB: Tensor, threshold: float) -> Tensor:
    """Find the step at which each image is decided, 0 being the first, int64 [B]."""
    sure_TB = confidence_TB >= threshold
    sure_TB[-1] = True
    return sure_TB.int().argmax(0)


class ExitCurve:
    """Mean steps and accuracy at every threshold of the confidence, max softmax(mean of the first t logits).

    A student whose early logits are good needs fewer steps for the same accuracy (SEENN, Li et al., NeurIPS 2023,
    Fig. 3). Logits of all steps are given; what an exit would have left out is not looked at.

    Args:
        temperatures: What the mean of the first t logits is divided by, for each step; None: 1.

    Examples:
        >>> import torch
        >>> logits_TBC = torch.tensor([[[9.0, 0.0], [0.1, 0.0]], [[9.0, 0.0], [0.0, 9.0]]])
        >>> curve = ExitCurve()
        >>> curve.update(logits_TBC, torch.tensor([0, 1]))  # the first image is sure at step 1, the second at step 2
        >>> curve.points()[40]["mean_steps"], curve.points()[40]["accuracy"]
        (1.5, 100.0)
    """

    def __init__(self, temperatures: Sequence[float] | None = None) -> None:
        self._temperatures = temperatures
        self._steps_K = torch.zeros(len(THRESHOLDS), dtype=torch.long)
        self._right_K = torch.zeros(len(THRESHOLDS), dtype=torch.long)
        self._images = 0

    def update(self, logits_TBC: Tensor, labels_B: Tensor) -> None:
        """Add a batch."""
        means_TBC = mean_of_first(logits_TBC)
        scales = torch.tensor(self._temperatures or [1.0] * len(means_TBC), device=means_TBC.device)
        confidence_TB = (means_TBC / scales[:, None, None]).softmax(-1).amax(-1)
        right_TB = is_correct(means_TBC, labels_B)
        steps_KB = torch.stack([exit_steps(confidence_TB, threshold) for threshold in THRESHOLDS])
        self._steps_K += (steps_KB + 1).sum(1).cpu()
        self._right_K += right_TB.gather(0, steps_KB).sum(1).cpu()
        self._images += len(labels_B)

    def points(self) -> list[dict[str, float]]:
        """`threshold`, `mean_steps` and `accuracy` in percent, from all steps to one; empty before the first batch."""
        numbers = zip(THRESHOLDS, self._steps_K.tolist(), self._right_K.tolist(), strict=True)
        return [
            {"threshold": threshold, "mean_steps": steps / self._images, "accuracy": 100 * right / self._images}
            for threshold, steps, right in numbers
            if self._images
        ]
