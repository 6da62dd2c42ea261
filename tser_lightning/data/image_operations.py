"""Pillow's operations on images, for whole batches: the same bytes, each image with its own size of the change.

AutoAugment and RandAugment are run with Pillow in the public code of the recipes, so that their operations are defined
by what Pillow does. Images are uint8 [B, C, H, W] with 1 or 3 channels, sizes float64 [B], both on the same device;
nothing waits for it.
Legend: B image, C channel, H, W.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

_LUMA = (19595, 38470, 7471)  # ITU-R 601-2 in parts of 65536, as Pillow has it


def shear_x(images_BCHW: Tensor, size_B: Tensor, fill_C: Tensor, cubic: bool) -> Tensor:
    """Take each pixel from size times its row number farther right."""
    return _affine(images_BCHW, (1.0, size_B, 0.0, 0.0, 1.0, 0.0), fill_C, cubic)


def shear_y(images_BCHW: Tensor, size_B: Tensor, fill_C: Tensor, cubic: bool) -> Tensor:
    """Take each pixel from size times its column number farther down."""
    return _affine(images_BCHW, (1.0, 0.0, 0.0, size_B, 1.0, 0.0), fill_C, cubic)


def translate_x(images_BCHW: Tensor, size_B: Tensor, fill_C: Tensor, cubic: bool) -> Tensor:
    """Take each pixel from `size` of the width farther right."""
    return _affine(images_BCHW, (1.0, 0.0, size_B * images_BCHW.shape[-1], 0.0, 1.0, 0.0), fill_C, cubic)


def translate_y(images_BCHW: Tensor, size_B: Tensor, fill_C: Tensor, cubic: bool) -> Tensor:
    """Take each pixel from `size` of the height farther down."""
    return _affine(images_BCHW, (1.0, 0.0, 0.0, 0.0, 1.0, size_B * images_BCHW.shape[-2]), fill_C, cubic)


def rotate(images_BCHW: Tensor, size_B: Tensor, fill_C: Tensor, cubic: bool) -> Tensor:
    """Turn each image about its middle by so many degrees, counter-clockwise."""
    H, W = images_BCHW.shape[-2:]
    angle_B = size_B * (math.pi / 180)
    cos_B, sin_B = angle_B.cos(), angle_B.sin()
    right_B = W / 2 - cos_B * (W / 2) + sin_B * (H / 2)
    down_B = H / 2 - sin_B * (W / 2) - cos_B * (H / 2)
    return _affine(images_BCHW, (cos_B, -sin_B, right_B, sin_B, cos_B, down_B), fill_C, cubic)


def invert(images_BCHW: Tensor) -> Tensor:
    """Take every value from 255."""
    return 255 - images_BCHW


def autocontrast(images_BCHW: Tensor) -> Tensor:
    """Stretch each channel to 0 to 255; one of a single value stays."""
    values = images_BCHW.double()
    low, high = values.amin((2, 3), keepdim=True), values.amax((2, 3), keepdim=True)
    scale = torch.full_like(low, 255) / (high - low).clamp(min=1)
    return torch.where(high > low, values * scale + -low * scale, values).clamp(0, 255).to(torch.uint8)


def equalize(images_BCHW: Tensor) -> Tensor:
    """Give each channel as flat a histogram as a change of its values allows."""
    values = images_BCHW.flatten(2).long()
    counts = torch.zeros(*values.shape[:2], 256, dtype=torch.int64, device=values.device)
    counts.scatter_add_(2, values, torch.ones_like(values))
    highest = values.amax(2, keepdim=True)
    step = (values.shape[2] - counts.gather(2, highest)) // 255
    below = counts.cumsum(2) - counts
    table = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255)
    return torch.where(step > 0, table.gather(2, values), values).view(images_BCHW.shape).to(torch.uint8)


def posterize(images_BCHW: Tensor, bits_B: Tensor) -> Tensor:
    """Keep the highest bits of every value, 0 to 8 of them."""
    rest = torch.pow(2, 8 - _beside(bits_B).long())
    return (images_BCHW.long() // rest * rest).to(torch.uint8)


def solarize(images_BCHW: Tensor, threshold_B: Tensor) -> Tensor:
    """Take values from the threshold on from 255."""
    return torch.where(images_BCHW < _beside(threshold_B), images_BCHW, 255 - images_BCHW)


def solarize_add(images_BCHW: Tensor, size_B: Tensor) -> Tensor:
    """Add to values below 128."""
    brighter = (images_BCHW + _beside(size_B)).clamp(max=255).to(torch.uint8)
    return torch.where(images_BCHW < 128, brighter, images_BCHW)


def color(images_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Blend with the image in grey; factor 1 changes nothing."""
    return _blend(_grey(images_BCHW), images_BCHW, factor_B)


def contrast(images_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Blend with the mean grey of the image."""
    middle = (_grey(images_BCHW).double().mean((2, 3), keepdim=True) + 0.5).floor()
    return _blend(middle, images_BCHW, factor_B)


def brightness(images_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Blend with black."""
    return _blend(torch.zeros_like(images_BCHW), images_BCHW, factor_B)


def sharpness(images_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Blend with the smoothed image: a 3x3 filter of ones with 5 in the middle, the border as it is."""
    H, W = images_BCHW.shape[-2:]
    smooth = images_BCHW.clone()
    if H > 2 and W > 2:
        values = images_BCHW.double()
        total = F.avg_pool2d(values, 3, 1, divisor_override=1) + 4 * values[:, :, 1:-1, 1:-1]
        smooth[:, :, 1:-1, 1:-1] = (total / 13 + 0.5).to(torch.uint8)
    return _blend(smooth, images_BCHW, factor_B)


Warp = Callable[[Tensor, Tensor, Tensor, bool], Tensor]
WARPS: dict[str, Warp] = {
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
    "Rotate": rotate,
}
SIZED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Posterize": posterize,
    "Solarize": solarize,
    "SolarizeAdd": solarize_add,
    "Color": color,
    "Contrast": contrast,
    "Brightness": brightness,
    "Sharpness": sharpness,
}
PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "AutoContrast": autocontrast,
    "Equalize": equalize,
    "Invert": invert,
}


def _beside(size_B: Tensor) -> Tensor:
    return size_B[:, None, None, None]


def _grey(images_BCHW: Tensor) -> Tensor:
    """One channel [B, 1, H, W]."""
    if images_BCHW.shape[1] == 1:
        return images_BCHW
    red, green, blue = (channel.long() * part for channel, part in zip(images_BCHW.unbind(1), _LUMA, strict=True))
    return ((red + green + blue + 0x8000) >> 16).unsqueeze(1)


def _blend(plain: Tensor, images_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    # Pillow blends in float32 and cuts off what is behind the point.
    plain, values = plain.float(), images_BCHW.float()
    return (plain + _beside(factor_B).float() * (values - plain)).clamp(0, 255).to(torch.uint8)


def _affine(images_BCHW: Tensor, matrix: tuple[Tensor | float, ...], fill_C: Tensor, cubic: bool) -> Tensor:
    """Take the pixel of column x and row y from a x + b y + c and d x + e y + f of the old image.

    What lies outside of it has the colour `fill_C`. `cubic` interpolates between 4x4 pixels with Keys' kernel of
    a = -1; else the pixel that is hit is taken.
    """
    B, _, H, W = images_BCHW.shape
    device = images_BCHW.device
    a, b, c, d, e, f = (torch.as_tensor(value, dtype=torch.float64, device=device).expand(B) for value in matrix)
    column_W, row_H1 = torch.arange(W, device=device), torch.arange(H, device=device)[:, None]
    if cubic:
        column_W, row_H1 = column_W + 0.5, row_H1 + 0.5
    else:
        # Pillow takes pixels by numbers of 16 bits behind the point.
        c, f = c + a * 0.5 + b * 0.5, f + d * 0.5 + e * 0.5
        a, b, c, d, e, f = (torch.floor(value_B * 65536 + 0.5) / 65536 for value_B in (a, b, c, d, e, f))
    x_BHW, y_BHW = (
        first[:, None, None] * column_W + second[:, None, None] * row_H1 + third[:, None, None]
        for first, second, third in ((a, b, c), (d, e, f))
    )
    inside_BHW = (x_BHW >= 0) & (x_BHW < W) & (y_BHW >= 0) & (y_BHW < H)
    values = _cubic(images_BCHW, x_BHW - 0.5, y_BHW - 0.5) if cubic else _pick(images_BCHW, x_BHW, y_BHW)
    return torch.where(inside_BHW[:, None], values, fill_C[:, None, None].to(torch.uint8))


def _pick(images_BCHW: Tensor, x_BHW: Tensor, y_BHW: Tensor) -> Tensor:
    """The pixels that hold these places; those outside count as the nearest inside."""
    B, C, H, W = images_BCHW.shape
    pixel_BHW = y_BHW.floor().long().clamp(0, H - 1) * W + x_BHW.floor().long().clamp(0, W - 1)
    picked = images_BCHW.reshape(B, C, -1).gather(2, pixel_BHW.flatten(1)[:, None].expand(B, C, -1))
    return picked.view(B, C, *x_BHW.shape[1:])


def _cubic(images_BCHW: Tensor, x_BHW: Tensor, y_BHW: Tensor) -> Tensor:
    left_BHW, top_BHW = x_BHW.floor(), y_BHW.floor()
    right = (x_BHW - left_BHW)[:, None]
    down = (y_BHW - top_BHW)[:, None]
    rows = [
        _curve([_pick(images_BCHW, left_BHW + i, top_BHW + k).double() for i in (-1, 0, 1, 2)], right)
        for k in (-1, 0, 1, 2)
    ]
    return _curve(rows, down).clamp(0, 255).to(torch.uint8)


def _curve(points: list[Tensor], share: Tensor) -> Tensor:
    """The cubic through the second (share 0) and third (share 1) of four, by Horner's rule in Pillow's order."""
    before, here, there, behind = points
    second = 2 * (before - here) + there - behind
    third = here - before - there + behind
    return here + share * (there - before + share * (second + share * third))
