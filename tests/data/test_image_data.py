import copy
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from tser_lightning.data import Batch, Digits
from tser_lightning.data.image_data import Batches
from tser_lightning.errors import UsageError


def _digits(**settings: Any) -> Digits:
    defaults: dict[str, Any] = {"num_classes": 10, "shape": [1, 8, 8], "mean": [0.3], "std": [0.4]}
    augment = {"crop": 1, "flip": True, "auto": "svhn", "cutout": 2}
    return Digits(**defaults | {"augment": augment} | settings)


def _epochs(loader: DataLoader[Batch], epochs: int = 2) -> list[Batch]:
    batches = []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        batches += list(loader)
    return batches


def _equal(first: Batch, second: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_workers_change_no_bit_and_torchs_own_generator_is_left_alone() -> None:
    data = _digits()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    alone = _epochs(data.loader("train", seed=3))
    torch.manual_seed(1)

    helped = _epochs(data.loader("train", seed=3, workers=2))

    assert len(alone) == len(helped) == 2 * (1293 // 128)
    assert all(_equal(a, b) for a, b in zip(alone, helped, strict=True))
    torch.manual_seed(0)
    _epochs(data.loader("train", seed=3), 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_epochs_and_seeds_differ_in_order_and_augmentation() -> None:
    data = _digits()
    first, second = _epochs(data.loader("train", batch_size=1293, seed=3))
    other = _epochs(data.loader("train", batch_size=1293, seed=4), 1)[0]

    for batch in (second, other):
        assert not torch.equal(first.indices, batch.indices)
        same_image = first.images[first.indices.argsort()] == batch.images[batch.indices.argsort()]
        assert not same_image.all(dim=(1, 2, 3)).all()


def test_batches_of_two_processes_are_those_of_one() -> None:
    data = _digits()
    whole = _epochs(data.loader("train", seed=1))
    shares = [_epochs(data.loader("train", seed=1, rank=rank, world_size=2)) for rank in range(2)]

    for batch, *parts in zip(whole, *shares, strict=True):
        for rank, part in enumerate(parts):
            assert _equal(Batch(*(tensor[rank::2] for tensor in batch)), part)


def test_an_augmented_image_does_not_depend_on_the_batch_size() -> None:
    data = _digits(drop_last=False)

    def by_index(batch_size: int) -> torch.Tensor:
        batches = _epochs(data.loader("train", batch_size=batch_size), 1)
        images, indices = torch.cat([b.images for b in batches]), torch.cat([b.indices for b in batches])
        return images[indices.argsort()]

    assert torch.equal(by_index(100), by_index(37))


def test_evaluation_yields_every_image_in_order_and_unaugmented() -> None:
    data = _digits()
    batches = list(data.loader("test", batch_size=100))
    images = torch.cat([batch.images for batch in batches])

    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(360))
    assert torch.equal(torch.cat([batch.labels for batch in batches]), data.labels("test"))
    raw = data.read("test", torch.arange(360), None).double() / 255
    torch.testing.assert_close(images, ((raw - 0.3) / 0.4).float())
    assert images.dtype == torch.float32


def test_validation_is_cut_from_train_whatever_the_seed() -> None:
    data = _digits(validation=0.1, augment=None)
    train, val = data.indices("train"), data.indices("val")

    assert sorted(train.tolist() + val.tolist()) == list(range(1437))
    assert len(val) == 144
    shares = torch.bincount(data.labels("train")[val]) / torch.bincount(data.labels("train"))
    assert ((shares - 0.1).abs() < 0.01).all()
    seen = torch.cat([batch.indices for batch in data.loader("train", seed=9, batch_size=1)])
    assert seen.sort().values.equal(train)


def test_no_validation_gives_all_of_train_and_no_val() -> None:
    data = _digits(validation=0)

    assert len(data.indices("train")) == 1437
    with pytest.raises(ValueError, match=r"validation=0 holds out none of the 1437"):
        data.loader("val")


def test_validation_that_takes_all_of_train_is_refused() -> None:
    with pytest.raises(UsageError, match="holds out all of the 1437 training images"):
        _digits(validation=0.9999).loader("train")


def test_a_crop_that_would_show_nothing_of_an_image_is_refused() -> None:
    with pytest.raises(UsageError, match="crop=8 pads images of 8 x 8 pixels") as told:
        _digits(augment={"crop": 8})
    assert told.value.fix == "crop=1"


def test_loader_goes_on_inside_an_epoch() -> None:
    loader = _digits().loader("train", seed=2, workers=2)
    whole = list(loader)

    loader.sampler.set_position(6)  # type: ignore[attr-defined]

    assert all(_equal(a, b) for a, b in zip(whole[6:], loader, strict=True))


def test_batches_are_made_on_the_device_that_they_are_wanted_on() -> None:
    """On torch's device without memory: mixing it with another one is an error, and so is reading a value."""
    data = _digits(mixup={"alpha": 0.5, "smoothing": 0.1})
    batches = Batches(data, "train", training=True, seed=3, device=torch.device("meta"))
    batch = batches[2, [5, 0, 7]]
    assert {tensor.device.type for tensor in batch} == {"meta"}
    assert batch.images.shape == (3, 1, 8, 8)
    assert batches.data._copies.keys() == {("train", torch.device("meta"))}  # type: ignore[attr-defined]
    assert _equal(*(next(iter(data.loader("train", seed=3, device=d))) for d in (None, torch.device("cpu"))))


def test_all_that_changes_an_image_is_in_the_transform() -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"mean": [0.2]},
        {"augment": {"crop": 2}},
        {"augment": {"crop": 2, "erasing": 0.01}},
        {"mixup": {"alpha": 0.2}},
        {"mixup": {"alpha": 0.2, "until": 3}},
    ]
    found = [repr(_digits(**each).transform()) for each in settings]
    assert len(set(found)) == len(settings)
    assert found[0] == repr(_digits(batch_size=7).transform())


def test_fingerprint_is_of_the_content() -> None:
    data, other = _digits(), _digits(validation=0.5, augment=None)
    changed = copy.deepcopy(other)
    changed._arrays["test_labels"][0] += 1

    assert len(data.fingerprint()) == 64
    assert data.fingerprint() == other.fingerprint() != changed.fingerprint()
    parts, others = data.fingerprints(), changed.fingerprints()
    assert parts["train"] == others["train"] != parts["test"] != others["test"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"num_classes": 100}, "digits has 10 classes"), ({"shape": [1, 9, 8]}, r"images of digits are \[1, 8, 8\]")],
)
def test_settings_that_do_not_fit_are_a_mistake(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _digits(**settings).check()


@pytest.mark.parametrize("settings", [{"validation": 1}, {"shape": [3, 8, 8]}, {"shape": [8, 8]}])
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|fraction|have 3 channels"):
        _digits(**settings)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="'validation' is not one of"):
        _digits().loader("validation")  # type: ignore[arg-type]
