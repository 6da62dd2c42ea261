"""Several networks as one.

Legend: B image, C class.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Networks that answer together: the mean of their logits. As a teacher it is several teachers.

    A loss that has `needs = Needs(teachers=True)` gets the logits of each beside their mean.

    Args:
        members: Networks by name, images to logits [B, C] of the same classes.

    Raises:
        ValueError: There is no member.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> both = Ensemble({"same": nn.Identity(), "other way round": nn.Softmin(-1)})
        >>> both(torch.zeros(1, 2)).tolist()  # the mean of (0, 0) and (1/2, 1/2)
        [[0.25, 0.25]]
    """

    def __init__(self, members: Mapping[str, nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ValueError("members is empty: an ensemble has at least one network")
        self.members = nn.ModuleDict(dict(members))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Give the mean of the members' logits, [B, C]."""
        return torch.stack([member(images_BCHW) for member in self.members.values()]).mean(0)
