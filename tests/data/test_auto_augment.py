"""AutoAugment and RandAugment against loops over images with Pillow that follow the public code's rules.

Their operations on a batch are compared with Pillow's own, image by image: the same bytes.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torchvision.transforms import v2

from tser_lightning.data.augment import Augment, crop_and_flip, cutout, erase
from tser_lightning.data.auto_augment import AugmentPolicy, AutoAugment, RandAugment
from tser_lightning.data.image_operations import PLAIN, SIZED, WARPS
from tser_lightning.data.random_numbers import Stream, branches, draw, sample_keys

KEYS_B = sample_keys(5, 2, torch.arange(200))
TIMMS = (
    *("AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd", "Color"),
    *("Contrast", "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY"),
)
SPIKFORMERS = ("Equalize", "Rotate", "ShearX", "TranslateX", "TranslateY")


def images(channels: int = 3, height: int = 18, width: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (200, channels, height, width), dtype=torch.uint8, generator=generator)


FILL = (125, 123, 114)
Pillow = Callable[[Image.Image, float], Image.Image]


def picture(image_CHW: Tensor) -> Image.Image:
    pixels = image_CHW.permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[:, :, 0] if len(image_CHW) == 1 else pixels)


def tensor(image: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def patterns(channels: int) -> Tensor:
    """Noise, noise in patches, few values, one value."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (60, channels, 18, 25), dtype=torch.uint8, generator=generator)
    patches = noise[:20, :, ::3, ::3].repeat_interleave(3, 2).repeat_interleave(3, 3)[:, :, :18, :25]
    return torch.cat([patches, noise[20:40], noise[40:50] // 32 + 60, noise[50:60, :, :1, :1].expand(-1, -1, 18, 25)])


def affine(matrix: Callable[[float, Image.Image], tuple[float, ...]], cubic: bool) -> Pillow:
    def move(image: Image.Image, size: float) -> Image.Image:
        way = Image.Resampling.BICUBIC if cubic else Image.Resampling.NEAREST
        fill = FILL if image.mode == "RGB" else FILL[0]
        return image.transform(image.size, Image.Transform.AFFINE, matrix(size, image), way, fillcolor=fill)

    return move


def turn(cubic: bool) -> Pillow:
    way = Image.Resampling.BICUBIC if cubic else Image.Resampling.NEAREST
    return lambda image, size: image.rotate(size, way, fillcolor=FILL if image.mode == "RGB" else FILL[0])


def pillows_warps(cubic: bool) -> dict[str, Pillow]:
    return {
        "ShearX": affine(lambda size, _: (1, size, 0, 0, 1, 0), cubic),
        "ShearY": affine(lambda size, _: (1, 0, 0, size, 1, 0), cubic),
        "TranslateX": affine(lambda size, image: (1, 0, size * image.size[0], 0, 1, 0), cubic),
        "TranslateY": affine(lambda size, image: (1, 0, 0, 0, 1, size * image.size[1]), cubic),
        "Rotate": turn(cubic),
    }


def darker_half(image: Image.Image, size: float) -> Image.Image:
    return image.point([min(255, i + int(size)) if i < 128 else i for i in range(256)] * len(image.getbands()))


PILLOWS: dict[str, Pillow] = {
    "Posterize": lambda image, size: (
        ImageOps.posterize(image, int(size)) if size else Image.new(image.mode, image.size)
    ),
    "Solarize": lambda image, size: image.point(
        [i if i < size else 255 - i for i in range(256)] * len(image.getbands())
    ),
    "SolarizeAdd": darker_half,
    "Color": lambda image, size: ImageEnhance.Color(image).enhance(size),
    "Contrast": lambda image, size: ImageEnhance.Contrast(image).enhance(size),
    "Brightness": lambda image, size: ImageEnhance.Brightness(image).enhance(size),
    "Sharpness": lambda image, size: ImageEnhance.Sharpness(image).enhance(size),
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Invert": lambda image, _: ImageOps.invert(image),
}
SIZES = {"Posterize": (0, 8), "Solarize": (0, 256), "SolarizeAdd": (0, 110), "Rotate": (-30, 30)}


def sizes(name: str) -> Tensor:
    low, high = SIZES.get(name, (-0.45, 0.45) if name in WARPS else (0.1, 1.9))
    drawn = low + (high - low) * torch.rand(60, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return drawn.round() if name in ("Posterize", "Solarize", "SolarizeAdd") else drawn


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("cubic", [True, False], ids=["bicubic", "nearest"])
@pytest.mark.parametrize("name", WARPS)
def test_images_are_moved_as_pillow_moves_them(name: str, cubic: bool, channels: int) -> None:
    batch, size_B, pillow = patterns(channels), sizes(name), pillows_warps(cubic)[name]
    found = WARPS[name](batch, size_B, torch.tensor(FILL[:channels]), cubic)
    expected = [tensor(pillow(picture(image), size)) for image, size in zip(batch, size_B.tolist(), strict=True)]
    assert torch.equal(found, torch.stack(expected))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*SIZED, *PLAIN])
def test_colours_are_changed_as_pillow_changes_them(name: str, channels: int) -> None:
    batch, size_B = patterns(channels), sizes(name)
    found = SIZED[name](batch, size_B) if name in SIZED else PLAIN[name](batch)
    expected = [tensor(PILLOWS[name](picture(image), size)) for image, size in zip(batch, size_B.tolist(), strict=True)]
    assert torch.equal(found, torch.stack(expected))


def grey(image: Tensor, name: str, size: float, cubic: bool) -> Tensor:
    """Do one thing with Pillow, where grey comes in from outside: the image beside its mask, put together."""
    if name not in pillows_warps(cubic):
        return tensor(PILLOWS[name](picture(image), size))
    warp = pillows_warps(cubic)[name]
    inside = tensor(warp(picture(torch.full_like(image[:1], 255)), size)) == 255
    return torch.where(inside, tensor(warp(picture(image), size)), 128)


def group_size(name: str, magnitude: int | None, sign: int) -> float:
    """The argument of an operation in the AutoAugment of the paper's group, by its ranges of ten values."""
    part = (magnitude or 0) / 9
    if name in ("ShearX", "ShearY"):
        return sign * 0.3 * part
    if name in ("TranslateX", "TranslateY"):
        return sign * 150 / 331 * part
    if name in ("Rotate", "Posterize", "Solarize"):
        return {"Rotate": 30 * part, "Posterize": round(8 - 4 * part), "Solarize": 256 * (1 - part)}[name]
    return 1 + sign * 0.9 * part


@pytest.mark.parametrize(("policy", "channels"), [("cifar10", 3), ("imagenet", 3), ("svhn", 1)])
def test_auto_augment_is_that_of_the_papers_group_under_the_same_draws(policy: str, channels: int) -> None:
    batch, pairs = images(channels), v2.AutoAugment(v2.AutoAugmentPolicy(policy))._policies
    keys = branches(KEYS_B, Stream.AUTOAUGMENT, 5)
    policies = draw(keys[0], Stream.AUTOAUGMENT, 25).tolist()
    negative = draw(keys[1:3], Stream.AUTOAUGMENT, 2).tolist()
    chances = (draw(keys[3:], Stream.AUTOAUGMENT, 1 << 31).double() / (1 << 31)).tolist()

    found = AutoAugment(policy)(batch, KEYS_B)

    assert (found != batch).flatten(1).any(1).sum() > 100
    for b in range(200):
        expected = batch[b]
        for step, (name, probability, magnitude) in enumerate(pairs[policies[b]]):
            if (policy, policies[b], step) == ("cifar10", 16, 1):
                assert (name, probability) == ("Equalize", 0.6)
                probability = 0.8
            if chances[step][b] < probability:
                size = group_size(name, magnitude, -1 if negative[step][b] else 1)
                expected = grey(expected, name, size, cubic=name in ("ShearX", "ShearY"))
        assert torch.equal(found[b], expected), pairs[policies[b]]


def timms_size(name: str, magnitude: float, sign: int) -> float:
    """The argument of an operation of timm's increasing list."""
    level = magnitude / 10
    whole: dict[str, float] = {
        "Posterize": 4 - int(level * 4),
        "Solarize": 256 - int(level * 256),
        "SolarizeAdd": int(level * 110),
    }
    if name in whole:
        return whole[name]
    spans = {"Rotate": 30.0, "ShearX": 0.3, "ShearY": 0.3, "TranslateX": 0.45, "TranslateY": 0.45}
    return sign * level * spans[name] if name in spans else 1 + sign * level * 0.9


@pytest.mark.parametrize(("choose_from", "names"), [("timm", TIMMS), ("spikformer", SPIKFORMERS)])
def test_rand_augment_is_timms_under_the_same_draws(choose_from: str, names: tuple[str, ...]) -> None:
    batch = images()
    keys = branches(KEYS_B, Stream.RAND_AUGMENT, 8).unflatten(0, (4, 2))
    which = draw(keys[0], Stream.RAND_AUGMENT, len(names)).tolist()
    negative, absent = (draw(keys[i], Stream.RAND_AUGMENT, 2).tolist() for i in (1, 2))
    chances = (draw(keys[3], Stream.RAND_AUGMENT, 1 << 31).double() / (1 << 31)).tolist()

    found = RandAugment(2, 27, choose_from)(batch, KEYS_B)

    for b in range(200):
        expected = batch[b]
        for step in range(2):
            magnitude = min(10.0, NormalDist(9, 0.4).inv_cdf(chances[step][b]))
            name = names[which[step][b]]
            size = timms_size(name, magnitude, -1 if negative[step][b] else 1)
            expected = expected if absent[step][b] else grey(expected, name, size, cubic=True)
        assert torch.equal(found[b], expected)


@pytest.mark.parametrize(("choose_from", "names"), [("timm", TIMMS), ("spikformer", SPIKFORMERS)])
def test_half_of_the_images_are_changed_by_all_operations_alike(choose_from: str, names: tuple[str, ...]) -> None:
    number = 50_000
    (step,) = RandAugment(1, 27, choose_from).choose(sample_keys(3, 1, torch.arange(number)))
    counts = Counter(step.operation.tolist())
    assert counts.pop(-1) / number == pytest.approx(0.5, abs=5 * sqrt(0.25 / number))
    assert {AugmentPolicy.names[operation] for operation in counts} == set(names)
    share = 0.5 / len(names)
    for count in counts.values():
        assert count / number == pytest.approx(share, abs=5 * sqrt(share / number))
    degrees = step.size[step.operation == AugmentPolicy.names.index("Rotate")]
    # m9 is 27 degrees, of both signs; the noise of 0.4 is 1.2 degrees, less what is cut off at 30 (2.5 deviations).
    assert float(degrees.mean()) == pytest.approx(0, abs=5 * 27 / sqrt(len(degrees)))
    assert float(degrees.abs().mean()) == pytest.approx(27, abs=5 * 1.2 / sqrt(len(degrees)))
    assert float(degrees.abs().std()) == pytest.approx(1.2, rel=0.1)
    assert float(degrees.abs().max()) == 30


def test_what_comes_in_from_outside_has_the_colour_of_the_mean() -> None:
    batch = torch.zeros(400, 3, 16, 16, dtype=torch.uint8)
    augment = Augment([0.4914, 0.4822, 0.4465], [0.25] * 3, rand_ops=1, rand_magnitude=27, rand_from="spikformer")
    values = augment(batch, sample_keys(0, 0, torch.arange(400))) * 0.25 + torch.tensor(augment.mean)[:, None, None]
    colours = (values * 255).round().long().permute(0, 2, 3, 1).flatten(0, 2).unique(dim=0).tolist()
    assert colours == [[0, 0, 0], list(FILL)]


def test_images_of_a_training_lie_channels_last_and_that_changes_nothing() -> None:
    batch = images()
    for augmentation in (AutoAugment("cifar10"), RandAugment(2, 9)):
        there = augmentation(batch.contiguous(memory_format=torch.channels_last), KEYS_B)
        assert torch.equal(there, augmentation(batch, KEYS_B))


def test_pairs_are_drawn_as_often_as_they_should() -> None:
    expected: defaultdict[tuple[int, str, float], float] = defaultdict(float)
    for place, pair in enumerate(v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)._policies):
        for step, (name, probability, magnitude) in enumerate(pair):
            probability = 0.8 if (place, step) == (16, 1) else probability
            for sign in (1, -1):
                plain = name in ("AutoContrast", "Equalize", "Invert")
                size = 0.0 if plain else group_size(name, magnitude, sign)
                expected[step, name, round(size, 6)] += probability / 25 / 2
    images_drawn = 100_000
    chosen = AutoAugment("cifar10").choose(sample_keys(3, 1, torch.arange(images_drawn)))
    found = Counter(
        (step, AugmentPolicy.names[number], round(size, 6))
        for step, (operation_B, size_B) in enumerate(chosen)
        for number, size in zip(operation_B.tolist(), size_B.tolist(), strict=True)
        if number >= 0
    )
    assert set(found) == {action for action, share in expected.items() if share > 0}
    for action, share in expected.items():
        deviation = (share * (1 - share) / images_drawn) ** 0.5
        assert found[action] / images_drawn == pytest.approx(share, abs=5 * deviation)


def test_an_operation_is_called_once_for_all_images_that_drew_it() -> None:
    calls: Counter[str] = Counter()

    class Counted(RandAugment):
        def apply(self, name: str, images_BCHW: Tensor, size_B: Tensor) -> Tensor:
            assert name not in calls
            calls[name] = len(images_BCHW)
            return images_BCHW

    Counted(1, 9)(images(), KEYS_B)
    assert set(calls) == set(TIMMS)
    assert 100 - 36 < calls.total() < 100 + 36  # binomial with 200 tries of 0.5: standard deviation 7.1


@pytest.mark.parametrize(
    "step",
    [
        lambda batch: crop_and_flip(batch, KEYS_B, 2, True),
        lambda batch: cutout(batch, KEYS_B, 6),
        lambda batch: erase(batch, KEYS_B, 0.5),
        lambda batch: RandAugment(2, 9)(batch, KEYS_B),
        lambda batch: Augment([0.5] * 3, [0.2] * 3)(batch, None),
    ],
    ids=["crop", "cutout", "erase", "operations", "normalise"],
)
def test_everything_stays_on_the_device_of_the_images(step: object) -> None:
    """On torch's device without memory: mixing it with another one is an error, and so is reading a value."""
    assert callable(step)
    assert step(images().to("meta")).device.type == "meta"
