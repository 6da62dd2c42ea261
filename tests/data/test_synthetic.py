import torch

from tser_lightning.data import Synthetic


def test_shape_and_classes_are_those_asked_for() -> None:
    data = Synthetic(7, [2, 5, 6], train_images=50, test_images=20, batch_size=9)
    batch = next(iter(data.loader("train")))

    assert batch.images.shape == (9, 2, 5, 6)
    assert data.labels("train").unique().tolist() == list(range(7))
    assert len(data.labels("test")) == 20
    everything = torch.cat([batch.images for batch in data.loader("test")])
    assert abs(everything.mean()) < 0.1
    assert abs(everything.std() - 1) < 0.1


def test_it_is_the_same_every_time() -> None:
    first, second = (Synthetic(3, [1, 4, 4], train_images=9, test_images=3) for _ in range(2))

    assert first.fingerprint() == second.fingerprint()


def test_fewer_images_than_classes_are_allowed() -> None:
    data = Synthetic(1000, [3, 8, 8], train_images=20, test_images=10, batch_size=4)

    assert next(iter(data.loader("train"))).images.shape == (4, 3, 8, 8)
