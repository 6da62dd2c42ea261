"""Which normalisation and size a teacher expects, found by trying the usual ones on training images.

Legend: B image, C channel or class, H, W.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tser_lightning.data.augment import normalise, to_unit
from tser_lightning.data.image_data import ImageData
from tser_lightning.models import InputAdapter
from tser_lightning.training.teacher import Teacher

IMAGES, FEWEST = 256, 48  # a way that has not seen the fewest in its share of the time is not judged
SECONDS = 8.0  # for all ways together
SHARE = 0.05  # of the images: by so many more must a way know, or it is no way worth a word

NORMALISATIONS = {
    "ImageNet's mean and std": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR's mean and std": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "MNIST's mean and std": ((0.1307,), (0.3081,)),
    "mean 0.5 and std 0.5": ((0.5,), (0.5,)),
    "pixels from 0 to 1": ((0.0,), (1.0,)),
    "pixels from 0 to 255": ((0.0,), (1 / 255,)),
}
SIZES = (28, 32, 64, 96, 128, 224)


@dataclass(frozen=True)
class BetterInput:
    """An input normalisation, size, stem or order of colours with which a teacher is more accurate than as set.

    Attributes:
        way: In words.
        fix: What to type or to change.
        images: On so many training images it was tried.
        before: Accuracy in percent on them as they come.
        after: In this way.
    """

    way: str
    fix: str
    images: int
    before: float
    after: float

    def __str__(self) -> str:
        """Describe the better input in words."""
        return (
            f"of {self.images} training images it knows {self.before:.1f} % as they come and "
            f"{self.after:.1f} % with {self.way}"
        )


@dataclass(frozen=True)
class _Way:
    words: str
    fix: str
    brought: Callable[[Tensor], Tensor]  # uint8 [B,C,H,W] to what the network gets
    size: tuple[int, int]
    changed: Callable[[], AbstractContextManager[None]] = nullcontext


def better_input(teacher: Teacher, data: ImageData) -> BetterInput | None:
    """Try the usual normalisations, sizes, stems and orders of colours on some training images.

    Each is tried by itself, on up to 256 images and for its share of some seconds. The test images are not touched.

    Args:
        teacher: Images to logits_BC; is left as it was.
        data: Where the images come from.

    Returns:
        The best way, if with it the teacher knows clearly more (by 5 % of the images and by 3 standard errors of the
        paired difference); None if there is none, for recordings, and for a network of a zoo that adapts its input.
    """
    if isinstance(getattr(teacher.net, "input_adapter", None), InputAdapter):
        return None
    indices = data.indices("train")
    picked = indices[torch.linspace(0, len(indices) - 1, min(IMAGES, len(indices))).long()].unique()
    images_BCHW, labels_B = data.read("train", picked, None), data.labels("train")[picked]
    if images_BCHW.ndim != 4:
        return None
    ways = [_Way("", "", lambda images: data.network_input(images, None), data.shape[1:]), *_ways(teacher.net, data)]
    as_they_come, *others = [_right(teacher, way, images_BCHW, labels_B, SECONDS / len(ways)) for way in ways]
    best: tuple[float, BetterInput] | None = None
    for way, right_B in zip(ways[1:], others, strict=True):
        count = min(len(right_B), len(as_they_come))
        if count < min(FEWEST, len(labels_B)):
            continue
        before_B, after_B = as_they_come[:count], right_B[:count]
        more = int(after_B.sum() - before_B.sum())
        differing = int((after_B != before_B).sum())
        if more < SHARE * count or more < 3 * differing**0.5 or (best is not None and more / count <= best[0]):
            continue
        before, after = (100 * float(each.double().mean()) for each in (before_B, after_B))
        best = more / count, BetterInput(way.words, way.fix, count, before, after)
    return None if best is None else best[1]


@torch.no_grad()
def _right(teacher: Teacher, way: _Way, images_BCHW: Tensor, labels_B: Tensor, seconds: float) -> Tensor:
    """Tell which of the first images a teacher classifies right, as many as there is time for."""
    device = next((value.device for value in teacher.net.parameters()), torch.device("cpu"))
    pixels = images_BCHW.shape[-2] * images_BCHW.shape[-1]
    batch_size = max(1, min(32, 32 * pixels // (way.size[0] * way.size[1])))
    right, end = [], time.perf_counter() + seconds
    with way.changed():
        for images, labels in zip(images_BCHW.split(batch_size), labels_B.split(batch_size), strict=True):
            try:
                answers_B = teacher(way.brought(images).to(device)).argmax(1).cpu()
            except (RuntimeError, ValueError):  # it takes no images of this size
                break
            right.append(answers_B == labels)
            if time.perf_counter() > end:
                break
    return torch.cat(right) if right else torch.zeros(0, dtype=torch.bool)


def _ways(net: nn.Module, data: ImageData) -> Iterator[_Way]:
    shape, size = data.shape, data.shape[1:]
    channels = shape[0]
    for words, (mean, std) in NORMALISATIONS.items():
        yield _Way(words, _as_settings(mean, std, channels), _normalised(mean, std, channels), size)
    if channels == 3:
        yield _Way(
            "the colours in the order blue, green, red",
            "a network of your own that begins with images.flip(1)",
            lambda images: data.network_input(images, None).flip(1),
            size,
        )
    for words, changed in _stems(net):
        yield _Way(
            words,
            f"a network of your own, whose stem has {words}",
            lambda images: data.network_input(images, None),
            size,
            changed,
        )
    for side in sorted(set(SIZES) - {size[0]}, key=lambda side: abs(side - size[0])):
        yield _Way(
            f"images of {side}x{side}",
            f"'shape=[{channels},{side},{side}]' for folders of images, or a network of your own that "
            f"resizes its images to {side}x{side}",
            lambda images, side=side: F.interpolate(  # type: ignore[misc]
                data.network_input(images, None), size=(side, side), mode="bilinear", antialias=True
            ),
            (side, side),
        )


def _per_channel(values: Sequence[float], channels: int) -> list[float]:
    return list(values) if len(values) == channels else [fmean(values)] * channels


def _normalised(mean: Sequence[float], std: Sequence[float], channels: int) -> Callable[[Tensor], Tensor]:
    mean_C, std_C = _per_channel(mean, channels), _per_channel(std, channels)
    return lambda images: normalise(to_unit(images), mean_C, std_C)


def _as_settings(mean: Sequence[float], std: Sequence[float], channels: int) -> str:
    lists = (",".join(f"{value:.5g}" for value in _per_channel(values, channels)) for values in (mean, std))
    return " ".join(f"'{name}=[{values}]'" for name, values in zip(("mean", "std"), lists, strict=True))


def _stems(net: nn.Module) -> Iterator[tuple[str, Callable[[], AbstractContextManager[None]]]]:
    """Name the stems that have the same weights: with and without the pool of a ResNet, with another stride."""
    pool, conv = getattr(net, "maxpool", None), getattr(net, "conv1", None)
    if not isinstance(conv, nn.Conv2d):
        return
    if isinstance(pool, nn.Identity):
        yield "a max-pool", lambda: _stem(net, nn.MaxPool2d(3, 2, padding=1), conv.stride)
    if isinstance(pool, nn.MaxPool2d):
        yield "no max-pool", lambda: _stem(net, nn.Identity(), conv.stride)
        yield "stride 1 and no max-pool", lambda: _stem(net, nn.Identity(), (1, 1))


@contextmanager
def _stem(net: nn.Module, pool: nn.Module, stride: tuple[int, ...]) -> Iterator[None]:
    conv = net.get_submodule("conv1")
    assert isinstance(conv, nn.Conv2d)
    before = net.get_submodule("maxpool"), conv.stride
    net.maxpool, conv.stride = pool, stride
    try:
        yield
    finally:
        net.maxpool, conv.stride = before
