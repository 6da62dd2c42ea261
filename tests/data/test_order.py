from itertools import chain

import pytest
import torch

from tser_lightning.data.order import Order
from tser_lightning.errors import UsageError

_INDICES = torch.arange(100, 200)


def _batches(order: Order) -> list[list[int]]:
    return [indices for _, indices in order]


def _images(order: Order) -> list[int]:
    return list(chain(*_batches(order)))


def test_an_epoch_holds_every_image_once_in_an_order_of_its_own() -> None:
    order = Order(_INDICES, 10, shuffle=True, seed=3)
    first = _images(order)
    order.set_epoch(1)
    second = _images(order)

    assert sorted(first) == sorted(second) == _INDICES.tolist()
    assert first != second
    assert first != _images(Order(_INDICES, 10, shuffle=True, seed=4))


def test_keys_carry_the_epoch() -> None:
    order = Order(_INDICES, 50, shuffle=True)
    order.set_epoch(7)

    assert [epoch for epoch, _ in order] == [7, 7]


@pytest.mark.parametrize(
    ("shuffle", "batch_size", "drop_last"), [(True, 24, True), (False, 24, False), (False, 33, False)]
)
def test_processes_share_the_batches_of_one_process(shuffle: bool, batch_size: int, drop_last: bool) -> None:
    whole = _batches(Order(_INDICES, batch_size, shuffle=shuffle, drop_last=drop_last, seed=1))
    shares = [
        Order(_INDICES, batch_size, shuffle=shuffle, drop_last=drop_last, seed=1, rank=rank, world_size=2)
        for rank in range(2)
    ]

    parts = [_batches(share) for share in shares]

    assert [len(share) for share in shares] == [len(part) for part in parts]
    for number, batch in enumerate(whole):
        together = [part[number] for part in parts if number < len(part)]
        assert sorted(chain(*together)) == sorted(batch)
        assert all(indices for indices in together)
    # 100 = 3 * 33 + 1: the last image of the evaluation with batches of 33 is for one process alone.
    if batch_size == 33:
        assert [len(part) for part in parts] == [4, 3]


def test_evaluation_keeps_the_given_order_and_the_last_images() -> None:
    assert _images(Order(_INDICES, 32)) == _INDICES.tolist()


def test_an_interrupted_epoch_goes_on_and_the_next_is_whole() -> None:
    order = Order(_INDICES, 16, shuffle=True, drop_last=True)
    whole = _batches(order)

    order.set_position(4)

    assert _batches(order) == whole[4:]
    assert _batches(order) == whole


def test_no_whole_batch_is_a_mistake() -> None:
    with pytest.raises(UsageError, match=r"batch_size=101 is above the 100 images"):
        Order(_INDICES, 101, drop_last=True)


@pytest.mark.parametrize(("batch_size", "drop_last"), [(25, True), (33, False)])
def test_unequal_shares_of_a_training_batch_are_a_mistake(batch_size: int, drop_last: bool) -> None:
    with pytest.raises(UsageError, match="equal shares"):
        Order(_INDICES, batch_size, shuffle=True, drop_last=drop_last, world_size=2)
