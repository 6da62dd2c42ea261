"""Accuracy of a trained student at any number of time steps.

Legend: T time step, B image, C class.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from tser_lightning.measure.accuracy import is_correct, mean_of_first
from tser_lightning.measure.eval_mode import evaluating
from tser_lightning.models.student import Student
from tser_lightning.neurons.clock import OverTime


def accuracy_at_timesteps(
    student: Student, batches: Iterable[Sequence[Tensor]], longest: int | None = None
) -> dict[int, float]:
    """Measure the accuracy at T' = 1 .. longest time steps, also beyond the T of training.

    Each T' counts as a run of its own with `student.timesteps` = T'. Where no module looks ahead in time, its logits
    are the first T' of the longest run, which is then the only one.

    Args:
        student: A student; it is run in eval mode, and has its T back afterwards.
        batches: (images [B, C, H, W], labels, ...) each, moved to the student's device.
        longest: The largest T'; None: 2 T.

    Returns:
        Accuracy of the mean of the logits, in percent, by T'.

    Raises:
        ValueError: Frames, which bring their own T, or no images.

    Examples:
        >>> import torch
        >>> from tser_lightning.models import Student, cnn_small
        >>> from tser_lightning.neurons import LIF
        >>> student = Student(cnn_small(10, 1, activation=LIF), timesteps=4)
        >>> found = accuracy_at_timesteps(student, [(torch.rand(2, 1, 8, 8), torch.tensor([3, 7]))], longest=6)
        >>> list(found), student.timesteps
        ([1, 2, 3, 4, 5, 6], 4)
    """
    trained = student.timesteps
    longest = longest or 2 * trained
    device = next(student.parameters()).device
    right_T, images = torch.zeros(longest, dtype=torch.long, device=device), 0
    try:
        with evaluating(student), torch.no_grad():
            for images_BCHW, labels_B, *_ in batches:
                if images_BCHW.ndim == 5:
                    raise ValueError("event frames bring their own number of steps: see acc_t1 .. acc_tT for fewer")
                right_T += _right_at(student, images_BCHW.to(device), labels_B.to(device), longest)
                images += len(labels_B)
    finally:
        student.timesteps = trained
    if not images:
        raise ValueError("there are no images to measure the accuracy on")
    return {steps: 100 * right / images for steps, right in enumerate(right_T.tolist(), start=1)}


def _right_at(student: Student, images_BCHW: Tensor, labels_B: Tensor, longest: int) -> Tensor:
    causal = all(module.causal for module in student.modules() if isinstance(module, OverTime))
    means = []
    for steps in [longest] if causal else range(1, longest + 1):
        student.timesteps = steps
        means_TBC = mean_of_first(student(images_BCHW))
        means.append(means_TBC if causal else means_TBC[-1:])
    return is_correct(torch.cat(means), labels_B).sum(1)
