"""Norms that know about spikes and time. Plain batch normalisation is torch's own `BatchNorm2d`.

Parameters are named as in `BatchNorm2d`, so that the weights of an ANN twin load. Several processes normalise as one by
`shared_statistics`; torch's `convert_sync_batchnorm` would turn these norms into plain ones.
"""

from typing import Any, cast

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
        v_threshold: Threshold of the neurons that follow: the deviation that their currents start with.
        eps: Added to the variance before the root, > 0.
        momentum: Of the running statistics; None: their plain mean.

    Examples:
        >>> import torch
        >>> norm = TDBN(3, v_threshold=0.5)
        >>> round(norm(torch.randn(64, 3, 8, 8)).std().item(), 3)  # starts at the threshold
        0.5
    """

    def __init__(
        self, channels: int, v_threshold: float = 1.0, eps: float = 1e-5, momentum: float | None = 0.1
    ) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.v_threshold = v_threshold
        self.alpha = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [T*B, C, H, W]."""
        self._check_input_dim(x)
        momentum = self.momentum or 0.0
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        weight = self.weight * (self.alpha * self.v_threshold)
        return F.batch_norm(
            x, self.running_mean, self.running_var, weight, self.bias, self.training, momentum, self.eps
        )


class TEBN(nn.BatchNorm2d, OverTime):
    """Temporal effective batch normalisation (Duan et al., NeurIPS 2022): p[t] * BatchNorm(x)[t], p learnt.

    Statistics are shared by all steps; p starts at 1. Steps after the last that it was made for use the last p.

    Args:
        channels: C of [T*B, C, H, W].
        timesteps: T, for which there are weights p.
        eps: Added to the variance before the root, > 0.
        momentum: Of the running statistics; None: their plain mean.

    Examples:
        >>> import torch
        >>> norm = TEBN(3, timesteps=4)
        >>> norm(torch.randn(4, 2, 3, 8, 8)).shape  # outside a student [T, B, C, H, W]
        torch.Size([4, 2, 3, 8, 8])
        >>> norm.p.tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    def __init__(self, channels: int, timesteps: int, eps: float = 1e-5, momentum: float | None = 0.1) -> None:
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


class NormByStep(nn.BatchNorm2d, OverTime):
    """Batch normalisation with weights and statistics, of the batch and running, of its own for every step.

    Steps after the last that it was made for use, and bring up to date, the last one's. Weights and running statistics
    are [T, C]; those of a `BatchNorm2d`, [C], load into every step.

    Args:
        channels: C of [T*B, C, H, W].
        timesteps: T, for which there are weights and statistics.
        eps: Added to the variance before the root, > 0.
        momentum: Of the running statistics; None: their plain mean.

    Examples:
        >>> import torch
        >>> norm = NormByStep(3, timesteps=4)
        >>> norm(torch.randn(4, 2, 3, 8, 8)).shape  # outside a student [T, B, C, H, W]
        torch.Size([4, 2, 3, 8, 8])
        >>> norm.running_mean.shape  # [T, C]
        torch.Size([4, 3])
    """

    def __init__(self, channels: int, timesteps: int, eps: float = 1e-5, momentum: float | None = 0.1) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        for name, parameter in list(self.named_parameters(recurse=False)):
            self.register_parameter(name, nn.Parameter(parameter.detach().repeat(timesteps, 1)))
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, self.get_buffer(name).repeat(timesteps, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [T*B, C, H, W]; one image for all steps becomes T*B. Outside a student: [T, B, C, H, W]."""
        x_T = self.unfold(x)
        if self.training and self.num_batches_tracked is not None and self.clock.first == 0:
            self.num_batches_tracked.add_(1)  # of batches, also where their steps come one by one
        normed = torch.cat([self.at_step(x_T, t) for t in range(len(x_T))])
        return normed if self.clock.steps else normed.unflatten(0, x_T.shape[:2])

    def at_step(self, x_T: Tensor, t: int) -> Tensor:
        """Normalise x_T[t], [B, C, H, W]."""
        return self.normalised(x_T[t], self.step(t))

    def step(self, t: int) -> int:
        """Give the index of the weights and statistics that the t-th step of this call uses."""
        return min(self.clock.first + t, len(self.weight) - 1)

    def normalised(self, x: Tensor, step: int) -> Tensor:
        """Normalise [N, C, H, W] with the weights and statistics of a step."""
        assert self.running_mean is not None
        assert self.running_var is not None
        bias = None if self.bias is None else self.bias[step]
        momentum = 1 / float(self.num_batches_tracked or 1) if self.momentum is None else self.momentum
        mean, var, weight = self.running_mean[step], self.running_var[step], self.weight[step]
        return F.batch_norm(x, mean, var, weight, bias, self.training, momentum, self.eps)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        for name in ("weight", "bias", "running_mean", "running_var"):
            value, own = state_dict.get(prefix + name), getattr(self, name)
            if value is not None and own is not None and value.ndim == 1:
                state_dict[prefix + name] = value.expand_as(own)
        super()._load_from_state_dict(state_dict, prefix, *others)


class BNTT(NormByStep):
    """Batch normalisation through time (Kim and Panda, Frontiers in Neuroscience 2021, Eq. 8).

    weight[t] * (x[t] - mean[t]) / sqrt(var[t] + eps): mean and variance are those of the images and pixels of step t
    alone, and there is no bias. So step t needs no other step, also in training.

    Args:
        channels: C of [T*B, C, H, W].
        timesteps: T, for which there are weights and statistics.
        eps: Added to the variance before the root, > 0.
        momentum: Of the running statistics; None: their plain mean.

    Examples:
        >>> import torch
        >>> norm = BNTT(3, timesteps=4)
        >>> norm(torch.randn(4, 2, 3, 8, 8)).shape  # outside a student [T, B, C, H, W]
        torch.Size([4, 2, 3, 8, 8])
        >>> norm.weight.shape, norm.running_mean.shape, norm.bias is None  # [T, C]
        (torch.Size([4, 3]), torch.Size([4, 3]), True)
    """

    def __init__(self, channels: int, timesteps: int, eps: float = 1e-4, momentum: float | None = 0.1) -> None:
        super().__init__(channels, timesteps, eps, momentum)
        self.register_parameter("bias", None)

    def reset_parameters(self) -> None:
        """Start again: statistics of 0 and 1, weights of 1."""
        self.reset_running_stats()
        nn.init.ones_(self.weight)


class TAB(NormByStep):
    """Temporal accumulated batch normalisation (Jiang et al., ICLR 2024), after its public code.

    p[t]^2 * (weight[t] * (x[t] - mean[t]) / sqrt(var[t] + eps) + bias[t]): mean and variance are those of the images
    and pixels of all steps up to t, as a membrane at t is what came in up to t. p starts at 1.

    A training that goes step by step sees the numbers of the earlier steps without a gradient to them.

    Args:
        channels: C of [T*B, C, H, W].
        timesteps: T, for which there are weights and statistics.
        eps: Added to the variance before the root, > 0.
        momentum: Of the running statistics; None: their plain mean.

    Examples:
        >>> import torch
        >>> norm = TAB(3, timesteps=4)
        >>> norm(torch.randn(4, 2, 3, 8, 8)).shape  # outside a student [T, B, C, H, W]
        torch.Size([4, 2, 3, 8, 8])
        >>> norm.running_mean.shape  # [T, C]
        torch.Size([4, 3])
    """

    def __init__(self, channels: int, timesteps: int, eps: float = 1e-5, momentum: float | None = 0.1) -> None:
        super().__init__(channels, timesteps, eps, momentum)
        self.p = nn.Parameter(torch.ones(timesteps))

    def at_step(self, x_T: Tensor, t: int) -> Tensor:
        """See `NormByStep.at_step`."""
        step = self.step(t)
        if not self.training:
            return self.normalised(x_T[t], step) * self.p[step].square().to(x_T.dtype)
        seen = x_T[: t + 1]
        carry = self.clock.carry
        if carry is not None:
            seen = torch.cat([carry[self], seen]) if self in carry else seen
            if t + 1 == len(x_T):
                carry[self] = seen.detach()
        normed = self.normalised(seen.flatten(0, 1), step)[-x_T.shape[1] :]
        return normed * self.p[step].square().to(x_T.dtype)


def joined(norm: nn.Module, branches: int = 2) -> nn.Module:
    """Tell a norm that its output is one of several that are added; only tdBN scales by their number."""
    if isinstance(norm, TDBN):
        norm.alpha = branches**-0.5
    return norm
