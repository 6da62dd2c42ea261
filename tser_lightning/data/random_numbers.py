"""Random numbers that are a function of (seed, epoch, sample index) and of nothing else.

A counter-based generator in plain int64 tensor arithmetic: every image has a key, and each use of chance has its own
stream of that key. No state means that worker count, batch composition, device, torch version and the point where a
run was interrupted cannot change a draw. The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood,
"Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from enum import IntEnum

import torch
from torch import Tensor


class Stream(IntEnum):
    """The uses of chance; a new one gets a new number, so that it leaves the draws of the others as they are."""

    CROP_ROW = 1
    CROP_COLUMN = 2
    FLIP = 3
    CUTOUT_ROW = 4
    CUTOUT_COLUMN = 5
    AUTOAUGMENT = 6
    RESIZED_CROP = 7
    RAND_AUGMENT = 8
    ERASING = 9
    MIXUP = 10


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits


_GAMMA = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def _shift(bits: Tensor, by: int) -> Tensor:
    # int64's >> copies the sign; the mask makes it the shift of an unsigned number.
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _mix(bits: Tensor) -> Tensor:
    bits = bits + _GAMMA
    bits = (bits ^ _shift(bits, 30)) * _FIRST
    bits = (bits ^ _shift(bits, 27)) * _SECOND
    return bits ^ _shift(bits, 31)


def sample_keys(seed: int, epoch: int, indices_B: Tensor) -> Tensor:
    """Give each image of an epoch its key, int64 [B]."""
    seed_1 = torch.tensor([seed], dtype=torch.int64, device=indices_B.device)
    return _mix(_mix(_mix(seed_1) + epoch) + indices_B)


def branches(keys_B: Tensor, stream: Stream, number: int) -> Tensor:
    """Give each image further keys for a use of chance that takes several draws, int64 [number, B]."""
    numbers_N1 = torch.arange(number, device=keys_B.device)[:, None]
    return _mix(_mix(keys_B ^ _mix(torch.full_like(keys_B, stream))) + numbers_N1)


def draw(keys_B: Tensor, stream: Stream, high: int) -> Tensor:
    """Draw one integer of [0, high) per key, int64 in the shape of the keys; high is at most 2^31."""
    return (_shift(_mix(keys_B ^ _mix(torch.full_like(keys_B, stream))), 33) * high) >> 31
