"""Whether a student knows how sure it may be: entropy and expected calibration error, of the mean and at each step.

Legend: T time step, B image, C class, R row (the mean of all steps, then each step alone), M bin.
"""

import torch
from torch import Tensor

from tser_lightning.measure.accuracy import is_correct, mean_of_first
from tser_lightning.measure.per_image import per_image

BINS = 15


def rows(student_TBC: Tensor) -> Tensor:
    """The mean of all steps followed by each step alone; [1 + T, B, C] float32."""
    return torch.cat([mean_of_first(student_TBC)[-1:], student_TBC.float()])


def row_names(name: str, timesteps: int) -> list[str]:
    """What the rows are called: `ece` for the mean, `ece_step1` .. `ece_stepT` for each step."""
    return [name, *(f"{name}_step{t}" for t in range(1, timesteps + 1))]


@per_image()
def entropy_samples(student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> dict[str, Tensor]:
    """Compute the entropy of the student's predictions in nats, of the mean over time and of each step alone.

    Args:
        student_TBC: The student's logits at every step.
        teacher_BC: Not looked at.
        labels_B: Not looked at.

    Returns:
        float32 [B] by name: `entropy`, `entropy_step1` .. `entropy_stepT`; softmax at temperature 1.

    Examples:
        >>> import torch
        >>> entropy = entropy_samples(torch.zeros(2, 1, 10), None, torch.tensor([0]))  # ln 10
        >>> {name: round(value_B.item(), 4) for name, value_B in entropy.items()}
        {'entropy': 2.3026, 'entropy_step1': 2.3026, 'entropy_step2': 2.3026}
    """
    log_RBC = rows(student_TBC).log_softmax(-1)
    entropy_RB = -(log_RBC.exp() * log_RBC).sum(-1)
    return dict(zip(row_names("entropy", len(student_TBC)), entropy_RB, strict=True))


def confidence(student_TBC: Tensor, labels_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the calibration error is made of.

    Args:
        student_TBC: The student's logits at every step.
        labels_B: Class indices.

    Returns:
        Of every row and image, [1 + T, B]: the bin of the confidence (int64 in 0..14; bin m is (m/15, (m+1)/15], Guo
        et al. 2017), the confidence (largest probability, float32), and whether the prediction is right (bool).

    Examples:
        >>> import torch
        >>> student_TBC = torch.tensor([[[1.0, 3.0]]]).log()
        >>> bin_RB, confidence_RB, right_RB = confidence(student_TBC, torch.tensor([1]))
        >>> bin_RB.tolist(), [round(each, 4) for each in confidence_RB.flatten().tolist()]  # 11/15 < 3/4 <= 12/15
        ([[11], [11]], [0.75, 0.75])
    """
    rows_RBC = rows(student_TBC)
    confidence_RB = rows_RBC.softmax(-1).amax(-1)
    inner_M = torch.linspace(0, 1, BINS + 1, device=rows_RBC.device)[1:-1]
    return torch.bucketize(confidence_RB, inner_M), confidence_RB, is_correct(rows_RBC, labels_B)


def calibration_error(confidence_M: Tensor, correct_M: Tensor, samples: int) -> float:
    """Compute the expected calibration error in percent (Naeini et al. 2015).

    Args:
        confidence_M: Sum of the confidences in each bin.
        correct_M: Number of right predictions in each bin.
        samples: Number of images in all bins.

    Returns:
        sum_m n_m / n * |accuracy_m - confidence_m|; n_m cancels, so that empty bins need no care.

    Examples:
        >>> import torch
        >>> confidence_M, correct_M = torch.tensor([6.0, 9.0]), torch.tensor([5.0, 10.0])  # of 10 images in each bin
        >>> calibration_error(confidence_M, correct_M, 20)  # (1 + 1) / 20
        10.0
    """
    return 100 * (confidence_M.double() - correct_M.double()).abs().sum().item() / samples
