"""How closely a student follows its teacher, and whether it follows into errors.

Legend: T time step, B image, C class.
"""

import torch.nn.functional as F
from torch import Tensor

from tser_lightning.measure.accuracy import is_correct, mean_of_first
from tser_lightning.measure.per_image import per_image

CONFIDENT = 0.8
"""A teacher is confident where its largest softmax probability, at temperature 1, is above this."""


def kl_to_teacher(mean_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """Compute KL(softmax(teacher) || softmax(student)) of each image, in nats, at temperature 1.

    Args:
        mean_BC: The student's logits, averaged over time.
        teacher_BC: The teacher's logits.

    Returns:
        float32 [B].

    Examples:
        >>> import torch
        >>> mean_BC, teacher_BC = torch.tensor([[1.0, 3.0]]).log(), torch.zeros(1, 2)
        >>> round(kl_to_teacher(mean_BC, teacher_BC).item(), 4)  # 1/2 ln(2 / 1) + 1/2 ln(2 / 3)
        0.1438
    """
    student_BC, target_BC = mean_BC.float().log_softmax(-1), teacher_BC.float().log_softmax(-1)
    return F.kl_div(student_BC, target_BC, reduction="none", log_target=True).sum(-1)


@per_image(needs_teacher=True)
def agreement_samples(student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> dict[str, Tensor]:
    """Compare the student's prediction, the mean of all steps, with the teacher's, image by image.

    Args:
        student_TBC: The student's logits at every step.
        teacher_BC: The teacher's logits.
        labels_B: Class indices.

    Returns:
        [B] by name: `agreement` (same class; bool), `kl_teacher` (nats; float32), `teacher_acc` (bool) and
        `teacher_fooled` (the teacher is wrong and confident, see `CONFIDENT`; bool), `acc_teacher_fooled` and
        `copied_teacher_fooled` (it is, and the student is right, or says the same; bool). The means of the last two
        are wanted over the images where `teacher_fooled` holds.

    Examples:
        >>> import torch
        >>> student_TBC, teacher_BC = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]), torch.tensor([[0.0, 9.0], [0.0, 9.0]])
        >>> found = agreement_samples(student_TBC, teacher_BC, torch.tensor([1, 0]))  # the teacher says 1 both times
        >>> found["agreement"].tolist(), found["teacher_fooled"].tolist(), found["acc_teacher_fooled"].tolist()
        ([True, False], [False, True], [False, True])
    """
    assert teacher_BC is not None
    mean_BC = mean_of_first(student_TBC)[-1]
    same_B, right_B = mean_BC.argmax(-1) == teacher_BC.argmax(-1), is_correct(teacher_BC, labels_B)
    fooled_B = ~right_B & (teacher_BC.float().softmax(-1).amax(-1) > CONFIDENT)
    return {
        "agreement": same_B,
        "kl_teacher": kl_to_teacher(mean_BC, teacher_BC),
        "teacher_acc": right_B,
        "teacher_fooled": fooled_B,
        "acc_teacher_fooled": fooled_B & is_correct(mean_BC, labels_B),
        "copied_teacher_fooled": fooled_B & same_B,
    }
