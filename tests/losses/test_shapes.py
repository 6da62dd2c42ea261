import pytest
import torch

from tser_lightning.losses.shapes import check_shapes

STUDENT_TBC, TEACHER_BC, LABELS_B = torch.zeros(2, 3, 10), torch.zeros(3, 10), torch.tensor([0, 9, 5])


def test_what_fits_is_let_through() -> None:
    check_shapes(STUDENT_TBC, TEACHER_BC, LABELS_B)
    check_shapes(STUDENT_TBC, None, LABELS_B.int())
    check_shapes(STUDENT_TBC, None, torch.full((3, 10), 0.1))


def test_a_missing_time_axis_is_named() -> None:
    with pytest.raises(ValueError, match=r"time first.*\[3, 10\].*unsqueeze"):
        check_shapes(STUDENT_TBC[0], TEACHER_BC, LABELS_B)


@pytest.mark.parametrize("teacher_BC", [torch.zeros(3, 11), torch.zeros(4, 10), torch.zeros(2, 3, 10)])
def test_a_teacher_of_other_classes_or_images_is_named(teacher_BC: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"teacher's logits must be \[B, C\] = \[3, 10\]"):
        check_shapes(STUDENT_TBC, teacher_BC, LABELS_B)


@pytest.mark.parametrize(
    "labels_B",
    [torch.zeros(2, dtype=torch.int64), torch.zeros(3), torch.zeros(3, 9), torch.zeros(3, 10, dtype=torch.int64)],
)
def test_labels_that_do_not_fit_are_named(labels_B: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="labels must be class indices"):
        check_shapes(STUDENT_TBC, TEACHER_BC, labels_B)


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_out_of_range_is_named(label: int) -> None:
    with pytest.raises(ValueError, match=r"labels must be in 0 \.\.\. 9"):
        check_shapes(STUDENT_TBC, TEACHER_BC, torch.tensor([0, label, 5]))
