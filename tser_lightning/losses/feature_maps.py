"""Features of any student and any teacher, brought to a common shape.

A convolutional network has maps [B, C, H, W], a transformer tokens [B, N, C], a pooled layer vectors [B, C].
"""

from math import isqrt

from torch import Tensor
from torch.nn import functional as F


def as_map(feature: Tensor) -> Tensor:
    """Turn a feature into a map [B, C, H, W].

    Tokens of a square image are laid out as it, without their class token if they have one; other tokens are averaged.
    A vector is a map of one pixel.
    """
    if feature.dim() == 4:
        return feature
    if feature.dim() == 2:
        return feature[..., None, None]
    if feature.dim() != 3:
        raise ValueError(f"a feature must be [B, C, H, W], [B, N, C] or [B, C], but is {list(feature.shape)}")
    tokens_BNC = feature[:, 1:] if _has_class_token(feature) else feature
    side = isqrt(tokens_BNC.shape[1])
    if side**2 != tokens_BNC.shape[1]:
        return tokens_BNC.mean(1)[..., None, None]
    map_BCHW: Tensor = tokens_BNC.transpose(1, 2).unflatten(2, (side, side))
    return map_BCHW


def pooled(feature: Tensor) -> Tensor:
    """Turn a feature into a vector [B, C]: the class token where there is one, else the mean over the image."""
    if feature.dim() == 3 and _has_class_token(feature):
        return feature[:, 0]
    return as_map(feature).mean((2, 3))


def same_size(left_BCHW: Tensor, right_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool the larger of two maps to the size of the smaller, per axis."""
    size = (min(left_BCHW.shape[2], right_BCHW.shape[2]), min(left_BCHW.shape[3], right_BCHW.shape[3]))
    return _pool(left_BCHW, size), _pool(right_BCHW, size)


def _has_class_token(tokens_BNC: Tensor) -> bool:
    """Tell whether there is one token more than a square image has."""
    count = tokens_BNC.shape[1]
    return count > 1 and isqrt(count - 1) ** 2 == count - 1


def _pool(map_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = map_BCHW.shape[2:]
    if (height, width) == size:
        return map_BCHW
    if height % size[0] or width % size[1]:
        return F.adaptive_avg_pool2d(map_BCHW, size)
    # The same numbers, but with a backward that is deterministic on an accelerator.
    return F.avg_pool2d(map_BCHW, (height // size[0], width // size[1]))
