from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from tser_lightning.data.augment import Augment, crop_and_flip, cutout, erase
from tser_lightning.data.auto_augment import AutoAugment, Operations, RandAugment
from tser_lightning.data.draws import Stream, branches, draw, sample_keys

KEYS_B = sample_keys(5, 2, torch.arange(200))


def images(channels: int = 3, height: int = 18, width: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (200, channels, height, width), dtype=torch.uint8, generator=generator)


class Scripted:
    """Stands in for torch's random numbers while torchvision asks for them."""

    def __init__(self, numbers: list[float]) -> None:
        self._numbers: Iterator[float] = iter(numbers)

    def __call__(self, *_: object) -> Tensor:
        return torch.tensor(next(self._numbers))


@pytest.mark.parametrize(("policy", "channels"), [("cifar10", 3), ("imagenet", 3), ("svhn", 1)])
def test_auto_augment_is_torchvisions_under_the_same_draws(
    policy: str, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, reference = images(channels), v2.AutoAugment(v2.AutoAugmentPolicy(policy))
    keys = branches(KEYS_B, Stream.AUTOAUGMENT, 5)
    policies = draw(keys[0], Stream.AUTOAUGMENT, 25).tolist()
    negative = draw(keys[1:3], Stream.AUTOAUGMENT, 2).tolist()
    chances = (draw(keys[3:], Stream.AUTOAUGMENT, 1 << 31).double() / (1 << 31)).tolist()

    found = AutoAugment(policy)(batch, KEYS_B)

    assert (found != batch).flatten(1).any(1).sum() > 100
    for b in range(200):
        numbers: list[float] = []
        for step, (name, probability, _) in enumerate(reference._policies[policies[b]]):
            numbers.append(chances[step][b])
            if chances[step][b] <= probability and reference._AUGMENTATION_SPACE[name][1]:
                numbers.append(0.25 if negative[step][b] else 0.75)
        with monkeypatch.context() as patched:
            patched.setattr(torch, "randint", Scripted([policies[b]]))
            patched.setattr(torch, "rand", Scripted(numbers))
            expected = reference(batch[b])
        assert torch.equal(found[b], expected), reference._policies[policies[b]]


def test_rand_augment_is_torchvisions_under_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, reference = images(), v2.RandAugment(2, 27)
    keys = branches(KEYS_B, Stream.RAND_AUGMENT, 4)
    which = draw(keys[:2], Stream.RAND_AUGMENT, 14)
    negative = draw(keys[2:], Stream.RAND_AUGMENT, 2)

    found = RandAugment(2, 27)(batch, KEYS_B)

    signed = [entry[1] for entry in reference._AUGMENTATION_SPACE.values()]
    for b in range(200):
        numbers = [0.25 if negative[s, b] else 0.75 for s in range(2) if signed[int(which[s, b])]]
        with monkeypatch.context() as patched:
            patched.setattr(torch, "randint", Scripted(which[:, b].tolist()))
            patched.setattr(torch, "rand", Scripted(numbers))
            expected = reference(batch[b])
        assert torch.equal(found[b], expected)


def test_images_of_a_training_lie_channels_last_and_that_changes_nothing() -> None:
    batch = images()
    for augmentation in (AutoAugment("cifar10"), RandAugment(2, 9)):
        there = augmentation(batch.contiguous(memory_format=torch.channels_last), KEYS_B)
        assert torch.equal(there, augmentation(batch, KEYS_B))


def test_actions_are_drawn_as_often_as_torchvision_draws_them() -> None:
    augmentation = AutoAugment("cifar10")
    expected: Counter[tuple[int, str, int | None, int]] = Counter()
    for pair in v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)._policies:
        for step, (name, probability, magnitude) in enumerate(pair):
            signs = (1, -1) if augmentation.signed(name) else (1,)
            for sign in signs:
                expected[step, name, magnitude, sign] += probability / 25 / len(signs)
    images_drawn = 100_000
    chosen = augmentation.choose(sample_keys(3, 1, torch.arange(images_drawn)))
    found = Counter(
        (step, *augmentation.actions[number])
        for step, numbers in enumerate(chosen.tolist())
        for number in numbers
        if number >= 0
    )
    assert set(found) == {action for action, share in expected.items() if share > 0}
    for action, share in expected.items():
        deviation = (share * (1 - share) / images_drawn) ** 0.5
        assert found[action] / images_drawn == pytest.approx(share, abs=5 * deviation)


def test_an_operation_is_called_once_for_all_images_that_drew_it() -> None:
    calls: list[int] = []

    class Counted(RandAugment):
        def apply(self, action: object, images_BCHW: Tensor) -> Tensor:
            calls.append(len(images_BCHW))
            return images_BCHW

    augmentation: Operations = Counted(1, 9)
    augmentation(images(), KEYS_B)
    assert sum(calls) == 200
    assert len(calls) <= len(augmentation.actions) == 14 + 9  # nine of the fourteen have a sign


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
