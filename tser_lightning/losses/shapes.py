"""What the tensors of a loss must look like; shapes alone, so that the accelerator is never waited for."""

import torch
from torch import Tensor


def check_shapes(student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> None:
    """Raise a ValueError that says which tensor does not fit, and how it should look."""
    if student_TBC.dim() != 3:
        raise ValueError(
            f"the student's logits must be [T, B, C], time first, but are {_shape(student_TBC)}; "
            "for a single step use logits.unsqueeze(0)"
        )
    _, images, classes = student_TBC.shape
    if teacher_BC is not None and teacher_BC.shape != (images, classes):
        raise ValueError(
            f"the teacher's logits must be [B, C] = [{images}, {classes}] like the student's {_shape(student_TBC)}, "
            f"but are {_shape(teacher_BC)}; student (time first) and teacher must see the same images and classes"
        )
    _check_labels(labels_B, images, classes)


def label_classes(labels_B: Tensor) -> Tensor:
    """Give the class of each label, int64 [B]: of a distribution [B, C] the largest."""
    return labels_B.argmax(-1) if labels_B.is_floating_point() else labels_B.long()


def _check_labels(labels_B: Tensor, images: int, classes: int) -> None:
    soft = labels_B.is_floating_point()
    wanted = (images, classes) if soft else (images,)
    if labels_B.shape != wanted or labels_B.dtype == torch.bool:
        raise ValueError(
            f"labels must be class indices [{images}] (int64) or distributions [{images}, {classes}] (float), "
            f"but are {_shape(labels_B)} of {labels_B.dtype}"
        )
    # On an accelerator reading the values would wait for it; its own index check is all there is.
    if not soft and labels_B.device.type == "cpu" and images and not 0 <= labels_B.min() <= labels_B.max() < classes:
        raise ValueError(
            f"labels must be in 0 ... {classes - 1}, the logits having {classes} classes, "
            f"but reach from {int(labels_B.min())} to {int(labels_B.max())}"
        )


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)
