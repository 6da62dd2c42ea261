import torch
from sklearn.datasets import load_digits

from tser_lightning.data import Digits


def test_parts_are_scikit_learns_digits_each_once() -> None:
    data = Digits(10, [1, 8, 8], mean=[0.0], std=[1.0])
    found = load_digits()

    seen: list[tuple[float, ...]] = []
    for part in ("train", "test"):
        images = data.read(part, torch.arange(len(data.labels(part))), None)
        counts = (images.double() * 16 / 255).round().flatten(1)
        seen += [(*row, float(label)) for row, label in zip(counts.tolist(), data.labels(part).tolist(), strict=True)]

    assert sorted(seen) == sorted((*row, float(label)) for row, label in zip(found.data, found.target, strict=True))
    assert len(data.labels("test")) == 360


def test_default_normalisation_is_that_of_the_training_images() -> None:
    data = Digits(10, [1, 8, 8], mean=[0.3055], std=[0.3759], validation=0, eval_batch_size=2000)
    images = data.augment(data.read("train", torch.arange(1437), None), None)

    assert abs(images.mean()) < 1e-3
    assert abs(images.std() - 1) < 1e-3
