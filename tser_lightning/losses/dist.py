"""DIST, distillation from a stronger teacher by correlations."""

from torch import Tensor

from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.distillation_loss import DistillationLoss
from tser_lightning.losses.log_probs import OverLogits, averaged_steps, check_over_logits, log_probs
from tser_lightning.losses.term import Term, not_negative, positive


class DIST(DistillationLoss):
    """Distillation from a stronger teacher (Huang et al., NeurIPS 2022), a reproduction of its public code.

        L = CE(mean_t z_t, y) + beta tau^2 mean_b [1 - r(Q_b, S_b)] + gamma tau^2 mean_c [1 - r(Q_c, S_c)]

    Q and S are the probabilities of teacher and student (of mean_t z_t) at temperature tau, r Pearson's correlation:
    over the classes of an image b, and over the images of a class c. The second is a statistic of the batch: under DDP
    and accumulation each part correlates its own images. How its logits meet time is ours.

    Args:
        beta: Weight of the relation between the classes of an image.
        gamma: Weight of the relation between the images of a class.
        tau: Temperature of both distributions, > 0.
        over: "mean_logits", or "steps": every step is compared.
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: A value out of its range.

    Examples:
        >>> import torch
        >>> teacher_BC = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 1.0]])
        >>> terms = DIST()(teacher_BC.expand(4, 2, 3), teacher_BC, torch.tensor([2, 1]))  # a perfect student
        >>> {name: abs(round(float(part), 4)) for name, part in terms.parts.items() if name != "ce"}
        {'inter': 0.0, 'intra': 0.0}
    """

    def __init__(
        self,
        beta: float = 2.0,
        gamma: float = 2.0,
        tau: float = 4.0,
        over: OverLogits = "mean_logits",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            {
                "ce": CrossEntropy(1.0, "mean_logits", label_smoothing),
                "inter": Relation(not_negative("beta", beta), -1, over, tau),
                "intra": Relation(not_negative("gamma", gamma), -2, over, tau),
            }
        )


class Relation(Term):
    """tau^2 times the mean of 1 - Pearson's correlation of the two probabilities along an axis of [..., B, C].

    Args:
        weight: Factor of this term in the loss, any finite number.
        axis: -1: over classes, image by image; -2: over images, class by class.
        over: "mean_logits", or "steps": every step is compared.
        tau: Temperature of both distributions, > 0.

    Raises:
        UsageError: `over` is not known, or `tau` is not above 0.

    Examples:
        >>> import torch
        >>> student_TBC, teacher_BC = torch.tensor([[[1.0, 3.0]]]).log(), torch.tensor([[3.0, 1.0]]).log()
        >>> term = Relation(axis=-1, tau=1.0)
        >>> round(float(term(student_TBC, teacher_BC, torch.tensor([0]))), 4)  # the correlation is -1
        2.0
    """

    needs_teacher = True

    def __init__(self, weight: float = 1.0, axis: int = -1, over: OverLogits = "mean_logits", tau: float = 4.0) -> None:
        super().__init__(weight)
        check_over_logits(over)
        self.axis, self.over, self.tau = axis, over, positive("tau", tau)
        self.sums_over_steps = over == "steps"

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor, labels_B: Tensor) -> Tensor:
        """Return the scalar; `labels_B` is not looked at."""
        s_TBC = log_probs(averaged_steps(student_TBC, self.over), self.tau).exp()
        p_TBC = log_probs(teacher_BC.detach(), self.tau).exp().expand_as(s_TBC)
        return self.tau**2 * (1 - self._correlation(s_TBC, p_TBC)).mean()

    def _correlation(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = a - a.mean(self.axis, keepdim=True), b - b.mean(self.axis, keepdim=True)
        # Squares in place of norms: the gradient of a norm at 0 (a batch of one image) is no number.
        size = ((a * a).sum(self.axis) + 1e-24).sqrt() * ((b * b).sum(self.axis) + 1e-24).sqrt()
        correlation: Tensor = (a * b).sum(self.axis) / (size + 1e-8)
        return correlation
