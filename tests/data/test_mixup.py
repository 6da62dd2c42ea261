from itertools import pairwise

import pytest
import torch

from tser_lightning.data import Batch, Synthetic
from tser_lightning.data.mixup import Mixup
from tser_lightning.data.random_numbers import sample_keys

_LABELS_B = torch.tensor([2, 0, 1, 1])
_KEYS_B = sample_keys(0, 0, torch.arange(4))


def _batch() -> Batch:
    return Batch(torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(0)), _LABELS_B, torch.arange(4))


def test_images_and_labels_are_mixed_by_the_same_share() -> None:
    batch = _batch()
    mixed = Mixup(3, alpha=0.5)(batch, _KEYS_B, epoch=0)

    # The first image has class 2, its partner, the last, class 1: the label tells the share.
    share = mixed.labels[0, 2].item()
    assert 0 < share < 1
    for b in range(4):
        torch.testing.assert_close(mixed.images[b], share * batch.images[b] + (1 - share) * batch.images[3 - b])
        expected = torch.zeros(3)
        expected[_LABELS_B[b]] += share
        expected[_LABELS_B[3 - b]] += 1 - share
        torch.testing.assert_close(mixed.labels[b], expected)


def test_shares_follow_the_beta_distribution() -> None:
    mixup = Mixup(3, alpha=0.5)
    shares = torch.tensor([mixup._share(sample_keys(0, epoch, torch.tensor([7]))) for epoch in range(2000)])

    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1)).
    assert abs(shares.mean() - 0.5) < 0.04
    assert abs(shares.var() - 1 / 8) < 0.01


def test_smoothing_spreads_its_share_over_all_classes() -> None:
    batch = Mixup(3, smoothing=0.3)(_batch(), _KEYS_B, epoch=0)

    torch.testing.assert_close(batch.labels[0], torch.tensor([0.1, 0.1, 0.8]))
    assert torch.equal(batch.images, _batch().images)


def test_mixing_ends_and_smoothing_stays() -> None:
    mixup = Mixup(3, alpha=0.5, smoothing=0.3, until=5)

    assert not torch.equal(mixup(_batch(), _KEYS_B, epoch=4).images, _batch().images)
    after = mixup(_batch(), _KEYS_B, epoch=5)
    assert torch.equal(after.images, _batch().images)
    torch.testing.assert_close(after.labels[1], torch.tensor([0.8, 0.1, 0.1]))


def test_without_settings_nothing_changes() -> None:
    batch = _batch()

    assert Mixup(3)(batch, _KEYS_B, epoch=0) is batch


def test_only_training_batches_are_mixed_and_each_by_its_own_share() -> None:
    data = Synthetic(
        3,
        [1, 4, 4],
        train_images=64,
        test_images=9,
        validation=0,
        batch_size=16,
        mixup={"alpha": 0.5, "smoothing": 0.1},
    )
    batches = list(data.loader("train"))

    assert all(batch.labels.shape == (16, 3) for batch in batches)
    assert all(not torch.equal(a.labels.max(1).values, b.labels.max(1).values) for a, b in pairwise(batches))
    assert next(iter(data.loader("test"))).labels.dtype == torch.int64


@pytest.mark.parametrize("settings", [{"alpha": -1.0}, {"smoothing": 1.0}])
def test_wrong_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be 0"):
        Mixup(3, **settings)  # type: ignore[arg-type]
