"""How closely a student follows its teacher, and whether it follows into errors.

Legend: T time step, B image, C class.
"""

import torch.nn.functional as F
from torch import Tensor

from tser_lightning.measure.accuracy import is_correct, mean_of_first

CONFIDENT = 0.8
"""A teacher is confident where its largest softmax probability, at temperature 1, is above this."""


def kl_to_teacher(mean_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) at temperature 1 per image, in nats; float32 [B]."""
    student_BC, target_BC = mean_BC.float().log_softmax(-1), teacher_BC.float().log_softmax(-1)
    return F.kl_div(student_BC, target_BC, reduction="none", log_target=True).sum(-1)


def agreement_samples(student_TBC: Tensor, teacher_BC: Tensor, labels_B: Tensor) -> dict[str, Tensor]:
    """How the student's prediction, the mean of all steps, relates to the teacher's on each image.

    Args:
        student_TBC: The student's logits at every step.
        teacher_BC: The teacher's logits.
        labels_B: Class indices.

    Returns:
        [B] by name: `agreement` (same class; bool), `kl_teacher` (nats; float32), `teacher_acc` (bool) and
        `teacher_fooled` (the teacher is wrong and confident, see `CONFIDENT`; bool), `acc_teacher_fooled` and
        `copied_teacher_fooled` (it is, and the student is right, or says the same; bool). The means of the last two
        are wanted over the images where `teacher_fooled` holds.
    """
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
