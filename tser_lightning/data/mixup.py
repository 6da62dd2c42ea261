"""Training on mixtures of two images and on softened labels."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tser_lightning.data.batch import Batch
from tser_lightning.data.random_numbers import Stream, draw


class Mixup:
    """Mix each image with the one at the mirrored place of its batch, and the labels likewise.

    One share per batch is drawn from Beta(alpha, alpha). The partner is in the same process's part of the batch, so
    this one step of the data depends on the number of processes.
    Source: Zhang et al., "mixup: Beyond empirical risk minimization", ICLR 2018, Eq. 2; label smoothing: Szegedy et
    al., "Rethinking the Inception architecture", CVPR 2016, section 7.

    Args:
        num_classes: Number of classes, the length of a mixed label.
        alpha: Of the Beta distribution, >= 0: near 0 mostly one image, 1 any share alike; 0 is no mixing.
        smoothing: Share of each label that is spread over all classes, in [0, 1).
        until: Epoch from which on images are no longer mixed (labels stay smoothed); None mixes to the end.

    Raises:
        ValueError: A value out of its range.

    Examples:
        >>> import torch
        >>> from tser_lightning.data import Batch
        >>> batch = Batch(torch.zeros(1, 1, 8, 8), torch.tensor([1]), torch.tensor([0]))
        >>> Mixup(2, smoothing=0.5)(batch, torch.zeros(1, dtype=torch.long), epoch=0).labels.tolist()
        [[0.25, 0.75]]
    """

    def __init__(self, num_classes: int, alpha: float = 0.0, smoothing: float = 0.0, until: int | None = None) -> None:
        if alpha < 0 or not 0 <= smoothing < 1:
            raise ValueError(f"alpha={alpha} must be 0 (no mixing) or above, and 0 <= smoothing={smoothing} < 1")
        self.num_classes, self.alpha, self.smoothing, self.until = num_classes, alpha, smoothing, until

    def __call__(self, batch: Batch, keys_B: Tensor, epoch: int) -> Batch:
        """Give a batch whose labels are distributions, float32 [B, classes], if there is anything to do."""
        if not self.alpha and not self.smoothing:
            return batch
        labels_BC = F.one_hot(batch.labels, self.num_classes).float()
        labels_BC = labels_BC * (1 - self.smoothing) + self.smoothing / self.num_classes
        if not self.alpha or (self.until is not None and epoch >= self.until):
            return batch._replace(labels=labels_BC)
        share = self._share(keys_B)
        # Frames [T,B,C,H,W] have the batch in their second axis.
        images = torch.lerp(batch.images.flip(batch.images.ndim - 4), batch.images, share)
        return Batch(images, torch.lerp(labels_BC.flip(0), labels_BC, share), batch.indices)

    def _share(self, keys_B: Tensor) -> float:
        seed = int(draw(keys_B[:1], Stream.MIXUP, 1 << 31))
        return float(np.random.default_rng(seed).beta(self.alpha, self.alpha))
