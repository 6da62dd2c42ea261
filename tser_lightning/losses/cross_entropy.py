"""Cross-entropy with the true labels."""

from torch import Tensor

from tser_lightning.errors import UsageError
from tser_lightning.losses.log_probs import Over, check_over, full_precision, student_log_probs
from tser_lightning.losses.term import Term


def cross_entropy(log_probs: Tensor, labels_B: Tensor) -> Tensor:
    """Compute -log p of the labels.

    Args:
        log_probs: Log-probabilities [..., B, C].
        labels_B: Class indices [B], or distributions [B, C] (mixup, soft labels).

    Returns:
        [..., B].

    Examples:
        >>> import torch
        >>> log_p_BC = torch.tensor([[0.25, 0.75]]).log()
        >>> round(float(cross_entropy(log_p_BC, torch.tensor([1]))), 4)  # ln 4/3
        0.2877
    """
    if labels_B.is_floating_point():
        return -(full_precision(labels_B) * log_probs).sum(-1)
    index = labels_B.long().expand(log_probs.shape[:-1]).unsqueeze(-1)
    return -log_probs.gather(-1, index).squeeze(-1)


class CrossEntropy(Term):
    """Mean over time and batch of the cross-entropy with the labels, at temperature 1.

    With `over="steps"` the hard part of Eq. 8 (and TET's), else that of Eq. 7. Eq. 6 prints its arguments swapped.

    Args:
        weight: Factor in the sum, (1 - alpha) in Eq. 7, 8 and 11.
        over: "steps", "mean_logits" or "mean_probs": what is compared with the label.
        label_smoothing: Share of the uniform distribution in the target, in [0, 1).

    Raises:
        UsageError: `over` is not known, or `label_smoothing` not in [0, 1).

    Source:
        TSER (CVPR 2025), Eq. 6 to 8.

    Examples:
        >>> import torch
        >>> student_TBC = torch.tensor([[[1.0, 3.0]], [[1.0, 1.0]]]).log()  # (1/4, 3/4), then (1/2, 1/2)
        >>> round(float(CrossEntropy(over="steps")(student_TBC, None, torch.tensor([1]))), 4)  # (ln 4/3 + ln 2) / 2
        0.4904
        >>> round(float(CrossEntropy(over="mean_probs")(student_TBC, None, torch.tensor([1]))), 4)  # ln 8/5
        0.47
    """

    def __init__(self, weight: float = 1.0, over: Over = "steps", label_smoothing: float = 0.0) -> None:
        super().__init__(weight)
        check_over(over)
        if not 0 <= label_smoothing < 1:
            raise UsageError(
                f"label_smoothing = {label_smoothing}", "it is a share in [0, 1)", "give 0.1, or 0 for none"
            )
        self.over, self.label_smoothing = over, label_smoothing
        self.sums_over_steps = over == "steps"

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> Tensor:
        """Return the scalar; `teacher_BC` is not looked at."""
        log_p = student_log_probs(student_TBC, self.over)
        hard = cross_entropy(log_p, labels_B).mean()
        if self.label_smoothing == 0:
            return hard
        return (1 - self.label_smoothing) * hard - self.label_smoothing * log_p.mean()
