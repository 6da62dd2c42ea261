"""The numbers that a `BatchNorm2d` normalises with, for kernels that compute it as one with the neurons behind it."""

import torch
from torch import Tensor, nn

from tser_lightning.kernels.batch_norm import BatchNorm, batch_moments


def batch_norm(norm: nn.BatchNorm2d, y_NCHW: Tensor) -> BatchNorm:
    """Give the numbers that `norm` would normalise y with, bringing its running statistics up to date."""
    mean, var = norm.running_mean, norm.running_var
    if norm.training or mean is None or var is None:
        return BatchNorm(norm.weight, norm.bias, *_moments(norm, y_NCHW), True, norm.eps)
    if torch.is_grad_enabled():  # a later call may change the running ones before backward reads them
        mean, var = mean.clone(), var.clone()
    return BatchNorm(norm.weight, norm.bias, mean, var, False, norm.eps)


@torch.no_grad()
def _moments(norm: nn.BatchNorm2d, y_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of a batch; brings the running ones up to date as the norm itself does."""
    momentum = norm.momentum
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        momentum = 1.0 / float(norm.num_batches_tracked) if momentum is None else momentum
    running = norm.running_mean, norm.running_var
    if running[0] is None:  # the kernel takes its precision from them
        wide = torch.promote_types(y_NCHW.dtype, torch.float32)
        running = y_NCHW.new_zeros(y_NCHW.shape[1], dtype=wide), y_NCHW.new_ones(y_NCHW.shape[1], dtype=wide)
    mean, var = batch_moments(y_NCHW, *running, momentum or 0.0)
    return mean, var
