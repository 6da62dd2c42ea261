"""CKDSNN: saliency maps (SAMD) and noise-smoothed logits (NLD)."""

from collections.abc import Sequence
from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from tser_lightning.errors import UsageError
from tser_lightning.losses.contract import LossContext, Needs
from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.distillation_loss import DistillationLoss
from tser_lightning.losses.feature_maps import as_map, same_size
from tser_lightning.losses.log_probs import full_precision, log_probs
from tser_lightning.losses.term import Term, not_negative, positive, share


class CKDSNN(DistillationLoss):
    """CKDSNN (Liu et al., AAAI 2026), a reproduction of its public code.

        L = CE(mean_t z_t, y) + nld NLD + samd SAMD

    NLD (`NoisyLogits`) teaches a mixture of the student's distribution and of a noisy one; SAMD (`SaliencyMaps`)
    compares where the teacher sees the class that it predicts with where the student fires. Both maps are scaled by the
    extremes of the batch, so that SAMD changes under DDP and accumulation; under DDP each process draws its own noise.

    Args:
        nld: Weight of NLD, the part on logits, >= 0.
        samd: Weight of SAMD, the part on maps, >= 0.
        tau: Temperature of the distributions of NLD and of the maps of SAMD, > 0.
        clean: Share of the distribution without noise in NLD, in [0, 1].
        student_layer: The last map of the student: a stage or a module path.
        teacher_layer: The last map of the teacher, which its classifier averages over the image.
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: A value out of its range.

    Examples:
        >>> loss = CKDSNN(nld=1.0, samd=0.5)
        >>> loss.weights
        {'ce': 1.0, 'nld': 1.0, 'samd': 0.5}
        >>> loss.needs.student_features, loss.needs.heads
        (('stage4',), True)
    """

    def __init__(
        self,
        nld: float = 1.0,
        samd: float = 1.0,
        tau: float = 2.0,
        clean: float = 0.9,
        student_layer: str = "stage4",
        teacher_layer: str = "stage4",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            {
                "ce": CrossEntropy(1.0, "mean_logits", label_smoothing),
                "nld": NoisyLogits(not_negative("nld", nld), tau, clean),
                "samd": SaliencyMaps(not_negative("samd", samd), tau, [student_layer], [teacher_layer]),
            }
        )


class NoisyLogits(Term):
    """tau^2 KL(Q || clean S(z) + (1 - clean) S(n)), mean over the batch; Q, S softmax at temperature tau.

    z is the mean over time of the logits, n = mean(z) + std(z)^2 e with e from the standard normal distribution
    (torch's generator), mean and std over the classes of an image.

    Args:
        weight: Factor of this term in the loss, any finite number.
        tau: Temperature of all three distributions, > 0.
        clean: Share of the distribution without noise, in [0, 1].

    Raises:
        UsageError: `tau` is not above 0, or `clean` not in [0, 1].

    Examples:
        >>> import torch
        >>> student_TBC, teacher_BC = torch.tensor([[[1.0, 3.0]]]).log(), torch.zeros(1, 2)
        >>> term = NoisyLogits(tau=1.0, clean=1.0)  # no noise: KL of (1/2, 1/2) and (1/4, 3/4)
        >>> round(float(term(student_TBC, teacher_BC, torch.tensor([0]))), 4)
        0.1438
    """

    needs_teacher = True

    def __init__(self, weight: float = 1.0, tau: float = 2.0, clean: float = 0.9) -> None:
        super().__init__(weight)
        self.tau, self.clean = positive("tau", tau), share("clean", clean)

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor, labels_B: Tensor) -> Tensor:
        """Return the scalar; `labels_B` is not looked at."""
        z_BC = full_precision(student_TBC).mean(0)
        noisy_BC = z_BC.mean(-1, keepdim=True) + torch.randn_like(z_BC) * z_BC.var(-1, keepdim=True)
        parts = [log_probs(z_BC, self.tau).exp() * self.clean, log_probs(noisy_BC, self.tau).exp() * (1 - self.clean)]
        log_s_BC = (parts[0] + parts[1]).clamp_min(torch.finfo(z_BC.dtype).tiny).log()
        log_p_BC = log_probs(teacher_BC.detach(), self.tau)
        return self.tau**2 * (log_p_BC.exp() * (log_p_BC - log_s_BC)).sum(-1).mean()


class SaliencyMaps(Term):
    """KL between two distributions over the image, mean over the batch: softmax(map / tau) of teacher and student.

    The teacher's map is ReLU(sum_c w_c F_c), w the weights of the class that it predicts in its classifier; one that
    sees averages over the cells of a grid has a w for each cell. The student's is the sum over steps and channels of
    its last feature. Both are brought to [0, 1] by the smallest and largest value in the batch. The larger one is
    pooled to the smaller; features that are tokens are laid out as maps.

    Args:
        weight: Factor of this term in the loss, any finite number.
        tau: Temperature: divides the maps, which are in [0, 1], before the softmax over the image; > 0.
        student_layers: The one layer of the student whose map is compared: a stage or a module path.
        teacher_layers: The one layer of the teacher whose map its classifier averages.

    Raises:
        UsageError: `tau` is not above 0; when it is called, the teacher's classifier does not fit its last map.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> from tser_lightning.losses import Heads, LossContext
        >>> map_BCHW = torch.rand(2, 4, 3, 3)
        >>> context = LossContext(
        ...     student_features={"stage4": map_BCHW[None]},
        ...     teacher_features={"stage4": map_BCHW},
        ...     heads=Heads(student=nn.Linear(4, 10), teacher=nn.Linear(4, 10)),
        ... )
        >>> loss = SaliencyMaps()(torch.zeros(1, 2, 10), torch.zeros(2, 10), torch.tensor([3, 7]), context=context)
        >>> loss.shape, bool(loss >= 0)  # a KL divergence
        (torch.Size([]), True)
    """

    needs_teacher = True

    def __init__(
        self,
        weight: float = 1.0,
        tau: float = 2.0,
        student_layers: Sequence[str] = ("stage4",),
        teacher_layers: Sequence[str] = ("stage4",),
    ) -> None:
        super().__init__(weight)
        self.tau = positive("tau", tau)
        (self.student_layer,), (self.teacher_layer,) = student_layers, teacher_layers
        self.needs = Needs(student_features=tuple(student_layers), teacher_features=tuple(teacher_layers), heads=True)

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor, labels_B: Tensor, context: LossContext) -> Tensor:
        """Return the scalar; `labels_B` is not looked at."""
        student, teacher = context.student_features[self.student_layer], context.teacher_features[self.teacher_layer]
        fired_B1HW = as_map(full_precision(student).sum(0)).sum(1, keepdim=True)
        seen_B1HW = self._seen(full_precision(as_map(teacher.detach())), teacher_BC, context)
        fired_B1HW, seen_B1HW = same_size(fired_B1HW, seen_B1HW.to(fired_B1HW.dtype))
        s_BN, p_BN = ((_scaled(each).flatten(1) / self.tau).softmax(-1) + 1e-10 for each in (fired_B1HW, seen_B1HW))
        return (p_BN * (p_BN.log() - s_BN.log())).sum(-1).mean()

    def _seen(self, map_BCHW: Tensor, teacher_BC: Tensor, context: LossContext) -> Tensor:
        """Where the teacher sees the class that it predicts."""
        head, channels = context.heads.teacher, map_BCHW.shape[1]
        assert head is not None
        inputs = int(getattr(head, "in_features", channels))
        grid = isqrt(inputs // channels)
        if grid**2 * channels != inputs:
            raise UsageError(
                what=f"the teacher's classifier has {inputs} inputs, which its last map {list(map_BCHW.shape)} is not",
                why="the map of a class weighs the channels by the classifier, which sees them as averages",
                fix="a ResNet as teacher, e.g. resnet_small, or teacher_layer=LAYER with the map that it sees",
            )
        with torch.no_grad(), torch.autocast(map_BCHW.device.type, enabled=False):
            each_DD = torch.eye(inputs, dtype=map_BCHW.dtype, device=map_BCHW.device)
            weights_DK = head(each_DD) - head(torch.zeros_like(each_DD[:1]))  # without the bias
        weights_BCGG = weights_DK[:, teacher_BC.argmax(-1)].T.unflatten(1, (channels, grid, grid))
        weights_BCHW = F.interpolate(weights_BCGG, map_BCHW.shape[2:]) if grid > 1 else weights_BCGG
        return (map_BCHW * weights_BCHW).sum(1, keepdim=True).relu()


def _scaled(map_B1HW: Tensor) -> Tensor:
    from_zero = map_B1HW - map_B1HW.amin()
    return from_zero / (from_zero.amax() + 1e-3)
