"""PFA: attention over time, channels and space as a sum of products of three vectors."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tser_lightning.neurons.clock import OverTime


class PFA(OverTime):
    """Projected-full attention (Deng et al., Knowledge-Based Systems 2024) of rank R.

    y = relu(A x), A[t, c, h, w] = sum_r p_r S_r[h, w] T_r[t] C_r[c], p = softmax(w), image by image, where
        S = sigmoid(conv3x3 from T to R channels of the mean over channels),
        T = sigmoid(linear from C to R of the mean over space),  C = sigmoid(linear from T to R of the same).
    w is a parameter and is trained; the public code overwrites it with its own softmax at every call, so that it only
    drifts to 1 / R. Every step depends on all steps: a student with PFA cannot compute while it streams.

    Args:
        channels: C of the maps that are weighed.
        timesteps: T, for which there are weights; a later step uses the last one's.
        rank: R, how many products of three vectors are summed; 1 or more.

    Raises:
        ValueError: `timesteps` or `rank` is below 1.

    Examples:
        >>> import torch
        >>> attention = PFA(16, timesteps=4, rank=2)
        >>> attention(torch.rand(4, 2, 16, 8, 8)).shape  # outside a student [T, B, C, H, W]
        torch.Size([4, 2, 16, 8, 8])
        >>> sum(parameter.numel() for parameter in attention.parameters())  # 2 (4 9 + 1), 2 (16 + 1), 2 (4 + 1), 2
        120
    """

    causal = False

    def __init__(self, channels: int, *, timesteps: int = 4, rank: int = 4) -> None:
        super().__init__()
        if timesteps < 1 or rank < 1:
            raise ValueError(f"timesteps={timesteps} and rank={rank} must be 1 or more")
        self.space = nn.Conv2d(timesteps, rank, kernel_size=3, padding=1)
        self.time = nn.Linear(channels, rank)
        self.channel = nn.Linear(timesteps, rank)
        self.weight = nn.Parameter(torch.zeros(rank))

    def forward(self, folded: Tensor) -> Tensor:
        """Weigh [T*B, C, H, W]."""
        x_TBCHW = self.unfold(folded)
        pooled_BTC = x_TBCHW.mean((3, 4)).transpose(0, 1)
        steps = torch.arange(len(x_TBCHW), device=folded.device).clamp(max=self.space.in_channels - 1)
        kernel, by_step = self.space.weight[:, steps], self.channel.weight[:, steps]
        maps_BTHW = x_TBCHW.mean(2).transpose(0, 1)
        space_BRHW = functional.conv2d(maps_BTHW, kernel, self.space.bias, padding=1).sigmoid()
        time_BTR = self.time(pooled_BTC).sigmoid()
        channel_BCR = functional.linear(pooled_BTC.transpose(1, 2), by_step, self.channel.bias).sigmoid()
        weighted_BTCR = time_BTR.unsqueeze(2) * channel_BCR.unsqueeze(1) * self.weight.softmax(0)
        attention = torch.einsum("btcr,brhw->tbchw", weighted_BTCR, space_BRHW)
        return self.fold(functional.relu(attention * x_TBCHW))
