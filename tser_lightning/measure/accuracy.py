"""How often a student is right: after t steps, at each step alone, among its five best.

Legend: T time step, B image, C class.
"""

import torch
from torch import Tensor

from tser_lightning.measure.per_image import per_image


def mean_of_first(logits_TBC: Tensor) -> Tensor:
    """Mean of the first t logits for t = 1..T, Algorithm 1 stopped after t steps; float32 [T, B, C].

    Args:
        logits_TBC: Logits at every step.

    Returns:
        float32 [T, B, C]; at T the prediction of Algorithm 1.

    Examples:
        >>> import torch
        >>> mean_of_first(torch.tensor([[[0.0, 1.0]], [[2.0, 1.0]]])).tolist()
        [[[0.0, 1.0]], [[1.0, 1.0]]]
    """
    logits_TBC = logits_TBC.float()
    steps_T = torch.arange(1, len(logits_TBC) + 1, device=logits_TBC.device)
    return logits_TBC.cumsum(0) / steps_T[:, None, None]


def is_correct(logits: Tensor, labels_B: Tensor) -> Tensor:
    """Whether the largest of the logits [..., B, C] is the label's; bool [..., B]."""
    return logits.argmax(-1) == labels_B


def is_among_best(logits: Tensor, labels_B: Tensor, best: int = 5) -> Tensor:
    """Whether the label is among the `best` largest of the logits [..., B, C]; bool [..., B]."""
    return (logits.topk(best, -1).indices == labels_B[:, None]).any(-1)


@per_image()
def accuracy_samples(student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> dict[str, Tensor]:
    """Whether each image is classified right, in every sense that is reported.

    Args:
        student_TBC: The student's logits at every step.
        teacher_BC: Not looked at.
        labels_B: Class indices.

    Returns:
        bool [B] by name: `acc` (mean of all steps), `acc5` (the same, five best; only above 5 classes), `acc_t1` ..
        `acc_tT` (mean of the first t steps), `acc_step1` .. `acc_stepT` (that step alone).

    Examples:
        >>> import torch
        >>> student_TBC = torch.tensor([[[1.0, 0.0]], [[0.0, 3.0]]])  # class 0, then class 1 and more surely so
        >>> {name: right_B.tolist() for name, right_B in accuracy_samples(student_TBC, None, torch.tensor([1])).items()}
        {'acc': [True], 'acc_t1': [False], 'acc_t2': [True], 'acc_step1': [False], 'acc_step2': [True]}
    """
    means_TBC = mean_of_first(student_TBC)
    first_TB, alone_TB = is_correct(means_TBC, labels_B), is_correct(student_TBC, labels_B)
    samples = {"acc": first_TB[-1]}
    if student_TBC.shape[-1] > 5:
        samples["acc5"] = is_among_best(means_TBC[-1], labels_B)
    samples |= {f"acc_t{t}": hit_B for t, hit_B in enumerate(first_TB, start=1)}
    return samples | {f"acc_step{t}": hit_B for t, hit_B in enumerate(alone_TB, start=1)}
