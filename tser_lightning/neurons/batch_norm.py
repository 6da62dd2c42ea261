"""The numbers that a `BatchNorm2d` normalises with, for kernels that compute it as one with the neurons behind it."""

import torch
from torch import Tensor, nn

from tser_lightning.kernels.batch_norm import BatchNorm, batch_moments


@torch.no_grad()
def statistics(norm: nn.BatchNorm2d, y_NCHW: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Bring the running statistics of `norm` up to date as its forward does.

    Returns:
        The mean and the biased variance that it would use, and whether they are those of the batch.
    """
    if not norm.training and norm.running_mean is not None:
        assert norm.running_var is not None
        return norm.running_mean, norm.running_var, False
    momentum = norm.momentum
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        momentum = 1.0 / float(norm.num_batches_tracked) if momentum is None else momentum
    running = norm.running_mean, norm.running_var
    if running[0] is None:  # the kernel takes its precision from them
        wide = torch.promote_types(y_NCHW.dtype, torch.float32)
        running = y_NCHW.new_zeros(y_NCHW.shape[1], dtype=wide), y_NCHW.new_ones(y_NCHW.shape[1], dtype=wide)
    return *batch_moments(y_NCHW, *running, momentum or 0.0), True


def batch_norm(norm: nn.BatchNorm2d, y_NCHW: Tensor) -> BatchNorm:
    """Give the numbers that `norm` would normalise y with, bringing its running statistics up to date."""
    mean, var, of_batch = statistics(norm, y_NCHW)
    if torch.is_grad_enabled() and not of_batch:  # a later call may change the running ones before backward reads them
        mean, var = mean.clone(), var.clone()
    return BatchNorm(norm.weight, norm.bias, mean, var, of_batch, norm.eps)
