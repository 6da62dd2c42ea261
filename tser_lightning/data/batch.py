"""The batch that every loader yields."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Some images of one split, ready for a network.

    Attributes:
        images: float32, normalised: [B,C,H,W], or event frames [T,B,C,H,W].
        labels: int64 [B]; after mixup a distribution, float32 [B, classes].
        indices: int64 [B], the place of each image in the whole train (or test) set, the same in every epoch.

    Examples:
        >>> import torch
        >>> batch = Batch(torch.zeros(2, 1, 8, 8), torch.tensor([3, 7]), torch.tensor([0, 1]))
        >>> batch.labels.tolist()
        [3, 7]
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
