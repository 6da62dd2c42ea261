"""IM-loss, information maximisation of the currents."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tser_lightning.losses.contract import LossContext, Needs
from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.distillation_loss import DistillationLoss
from tser_lightning.losses.log_probs import full_precision
from tser_lightning.losses.term import Term, not_negative


class IMLoss(DistillationLoss):
    """Information maximisation loss (Guo et al., NeurIPS 2022), our interpretation; it needs no teacher.

        L = CE(mean_t z_t, y) + lam mean over layers l of (mean of the currents into l - v_threshold / T)^2

    The mean of a layer is over steps, images, channels and pixels (`CurrentMean`): a statistic of the batch, so under
    DDP and accumulation each part has its own. Uncertain: that the mean is of the whole layer and not of each channel,
    which layers count, and the evolving surrogate of the same paper, which is the neuron's affair and not done here.

    Args:
        lam: Weight of the distance of the mean currents from their aim, >= 0.
        v_threshold: The threshold that the currents aim at, 0.5 in the paper's networks.
        neurons: The neurons whose currents count: module paths or patterns.
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: A value out of its range.

    Examples:
        >>> import torch
        >>> from tser_lightning.losses import LossContext
        >>> context = LossContext(currents={"act1": torch.full((2, 1, 3), 0.25)})  # v_threshold / T
        >>> terms = IMLoss()(torch.zeros(2, 1, 10), None, torch.tensor([3]), context=context)
        >>> float(terms.parts["im"])
        0.0
    """

    def __init__(
        self,
        lam: float = 0.005,
        v_threshold: float = 0.5,
        neurons: Sequence[str] = ("*",),
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            {
                "ce": CrossEntropy(1.0, "mean_logits", label_smoothing),
                "im": CurrentMean(not_negative("lam", lam), v_threshold, neurons),
            }
        )


class CurrentMean(Term):
    """Mean over layers of neurons of (mean of its currents - v_threshold / T)^2.

    Args:
        weight: Factor of this term in the loss, any finite number.
        v_threshold: The threshold that the currents aim at: v_threshold / T a step adds up to it after T steps.
        neurons: The neurons whose currents count: module paths or patterns.

    Source:
        Guo et al., NeurIPS 2022 (IM-loss).

    Examples:
        >>> import torch
        >>> from tser_lightning.losses import LossContext
        >>> context = LossContext(currents={"act1": torch.full((2, 1, 3), 0.75)})
        >>> float(CurrentMean(v_threshold=0.5)(torch.zeros(2, 1, 10), None, torch.tensor([3]), context=context))
        0.25
    """

    def __init__(self, weight: float = 0.005, v_threshold: float = 0.5, neurons: Sequence[str] = ("*",)) -> None:
        super().__init__(weight)
        self.v_threshold, self.needs = v_threshold, Needs(currents=tuple(neurons))

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor, context: LossContext) -> Tensor:
        """Return the scalar; only the currents are looked at."""
        target = self.v_threshold / len(student_TBC)
        means = [full_precision(currents).mean() for currents in context.currents.values()]
        return (torch.stack(means) - target).square().mean()
