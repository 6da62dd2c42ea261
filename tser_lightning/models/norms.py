"""Norms that know about spikes and time. Plain batch normalisation is torch's own `BatchNorm2d`.

Parameters are named as in `BatchNorm2d`, so that the weights of an ANN twin load. Several processes normalise as one by
`shared_statistics`; torch's `convert_sync_batchnorm` would turn these norms into plain ones.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tser_lightning.neurons.clock import OverTime


class TDBN(nn.BatchNorm2d):
    """Threshold-dependent batch normalisation (Zheng et al., AAAI 2021): weight * alpha * v_threshold * x_hat + bias.

    Statistics are over all steps, images and pixels of a channel. alpha is 1, and 1/sqrt(2) where two branches are
    added (`joined`), so that what reaches a neuron starts with the deviation of its threshold.

    Args:
        channels: C of [T*B, C, H, W].
        v_threshold: Threshold of the neurons that follow.
        eps: Added to the variance.
        momentum: Of the running statistics.
    """

    def __init__(self, channels: int, v_threshold: float = 1.0, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.v_threshold = v_threshold
        self.alpha = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [T*B, C, H, W]."""
        self._check_input_dim(x)
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        weight = self.weight * (self.alpha * self.v_threshold)
        return F.batch_norm(
            x, self.running_mean, self.running_var, weight, self.bias, self.training, self.momentum or 0.0, self.eps
        )


class TEBN(nn.BatchNorm2d, OverTime):
    """Temporal effective batch normalisation (Duan et al., NeurIPS 2022): p[t] * BatchNorm(x)[t], p learnt.

    Statistics are shared by all steps; p starts at 1. Steps after the last that it was made for use the last p.

    Args:
        channels: C of [T*B, C, H, W].
        timesteps: T, the number of weights.
        eps: Added to the variance.
        momentum: Of the running statistics.
    """

    def __init__(self, channels: int, timesteps: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.p = nn.Parameter(torch.ones(timesteps))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [T*B, C, H, W]; one image for all steps becomes T*B."""
        normed_T = self.unfold(super().forward(x) if self.clock.steps else self._over_all_steps(x))
        first = self.clock.first
        steps = torch.arange(first, first + len(normed_T), device=x.device).clamp(max=len(self.p) - 1)
        return self.fold(normed_T * self.p[steps].to(x.dtype).view(-1, *[1] * (normed_T.dim() - 1)))

    def _over_all_steps(self, x_T: Tensor) -> Tensor:
        """Outside a student: [T, B, C, H, W]."""
        return cast(Tensor, super().forward(x_T.flatten(0, 1)).unflatten(0, x_T.shape[:2]))


def joined(norm: nn.Module, branches: int = 2) -> nn.Module:
    """Tell a norm that its output is one of several that are added up; only tdBN wants to know."""
    if isinstance(norm, TDBN):
        norm.alpha = branches**-0.5
    return norm
