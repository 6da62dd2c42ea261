"""Cutting a part from a labelled set, by a rule that no seed changes."""

import torch
from torch import Tensor

from tser_lightning.data.random_numbers import sample_keys


def stratified(labels: Tensor, count: int) -> Tensor:
    """Choose `count` images so that every class gives its share, within one image.

    The images are lined up by class, in a fixed pseudo-random order inside each, and picked at equal distances: image
    p of N is chosen when floor((p+1) count / N) is above floor(p count / N).

    Args:
        labels: Class of each image, int64 [N].
        count: How many images to choose, at most N.

    Returns:
        Whether each image is chosen, bool [N].
    """
    size = len(labels)
    shuffled = torch.argsort(sample_keys(0, 0, torch.arange(size)), stable=True)
    line = shuffled[torch.argsort(labels[shuffled], stable=True)]
    places = torch.arange(size)
    chosen = torch.zeros(size, dtype=torch.bool)
    chosen[line] = (places + 1) * count // size > places * count // size
    return chosen
