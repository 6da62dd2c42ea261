"""AutoAugment and RandAugment of a batch: each operation once, for all images that drew it.

What an image draws are numbers of its key; what an operation does is what Pillow does (`image_operations`), with which
the public code of the recipes runs.
Legend: B image, S step of the operations, one after the other, P policy, C channel.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tser_lightning.data.image_operations import PLAIN, SIZED, WARPS
from tser_lightning.data.random_numbers import Stream, branches, draw

_SURE = 1 << 31  # a probability is so many of the numbers that are drawn from
_NAMES = (*WARPS, *SIZED, *PLAIN)
_GREY = 128  # fills in both public codes where no mean colour is given


class Step(NamedTuple):
    """What happens to each image at a step.

    Attributes:
        operation: Number of a name of `AugmentPolicy.names`, or -1 for none; int64 [B].
        size: What the operation is told besides; float64 [B].
    """

    operation: Tensor
    size: Tensor


class AugmentPolicy(ABC):
    """Operations that are drawn for each image of a batch.

    Args:
        cubic: Names of those operations that interpolate between 4x4 pixels; the others take the nearest.
        fill: Colour of what comes in from outside, 0 to 255: a number for each channel, or one for all.

    Attributes:
        names: Of all operations.
    """

    names = _NAMES

    def __init__(self, cubic: Collection[str], fill: Sequence[int]) -> None:
        self._cubic, self._fill_C = frozenset(cubic), torch.tensor(list(fill))

    @abstractmethod
    def choose(self, keys_B: Tensor) -> list[Step]:
        """Draw what happens, from keys on the processor."""

    def apply(self, name: str, images_BCHW: Tensor, size_B: Tensor) -> Tensor:
        """Apply the operation `name` to uint8 images [B, C, H, W], each by its own strength of `size_B`."""
        if name in WARPS:
            fill_C = self._fill_C.expand(images_BCHW.shape[1]).to(images_BCHW.device, non_blocking=True)
            return WARPS[name](images_BCHW, size_B, fill_C, name in self._cubic)
        return SIZED[name](images_BCHW, size_B) if name in SIZED else PLAIN[name](images_BCHW)

    def __call__(self, images_BCHW: Tensor, keys_B: Tensor) -> Tensor:
        """Augment uint8 images, each by what its key says."""
        images_BCHW = images_BCHW.clone()
        for operation_B, size_B in self.choose(keys_B.cpu()):
            for number in operation_B.unique().tolist():
                if number >= 0:
                    chosen = (operation_B == number).nonzero().flatten()
                    rows, sizes = (x.to(images_BCHW.device, non_blocking=True) for x in (chosen, size_B[chosen]))
                    done = self.apply(self.names[number], images_BCHW.index_select(0, rows), sizes)
                    images_BCHW.index_copy_(0, rows, done)
        return images_BCHW


class AutoAugment(AugmentPolicy):
    """One of 25 pairs of operations, each with its probability (Cubuk et al., CVPR 2019).

    As in the Pillow code that the paper's group and MPBN's use: grey comes in from outside, shears interpolate
    (bicubic) where shifts and turns take the nearest pixel, a turn is always counter-clockwise, and the 17th pair of
    CIFAR-10 has its second Equalize with probability 0.8 (0.6 in torchvision). All else is as torchvision has it.

    Args:
        policy: "cifar10", "imagenet" or "svhn".

    Raises:
        ValueError: There is no such policy.
    """

    def __init__(self, policy: str) -> None:
        super().__init__(("ShearX", "ShearY"), (_GREY,))
        steps = list(zip(*_pairs(policy), strict=True))
        self._operation_SP = torch.tensor([[self.names.index(name) for name, _, _ in step] for step in steps])
        self._chance_SP = torch.tensor([[round(chance * _SURE) for _, chance, _ in step] for step in steps])
        sizes = [[_size(name, (magnitude or 0) / 9) for name, _, magnitude in step] for step in steps]
        self._start_SP, self._change_SP = torch.tensor(sizes, dtype=torch.float64).unbind(2)

    def choose(self, keys_B: Tensor) -> list[Step]:
        """See `AugmentPolicy`."""
        policy, *others = branches(keys_B, Stream.AUTOAUGMENT, 5)
        policy_B = draw(policy, Stream.AUTOAUGMENT, self._operation_SP.shape[1])
        sign_SB = 1 - 2 * draw(torch.stack(others[:2]), Stream.AUTOAUGMENT, 2)
        happens_SB = draw(torch.stack(others[2:]), Stream.AUTOAUGMENT, _SURE) < self._chance_SP[:, policy_B]
        operation_SB = torch.where(happens_SB, self._operation_SP[:, policy_B], -1)
        size_SB = self._start_SP[:, policy_B] + sign_SB * self._change_SP[:, policy_B]
        return [Step(*step) for step in zip(operation_SB, size_SB, strict=True)]


def _pairs(policy: str) -> list[tuple[tuple[str, float, int | None], tuple[str, float, int | None]]]:
    """The pairs of a policy: names, probabilities and magnitudes 0 to 9."""
    # Its tables alone are used, but torchvision takes seconds to import.
    from torchvision.transforms import v2

    known = {choice.value: choice for choice in v2.AutoAugmentPolicy}
    if policy not in known:
        raise ValueError(f"auto={policy!r} is no AutoAugment policy: choose one of {sorted(known)} or null")
    pairs = list(v2.AutoAugment(known[policy])._policies)
    if policy == "cifar10":
        pairs[16] = (pairs[16][0], ("Equalize", 0.8, None))
    return pairs


def _size(name: str, part: float) -> tuple[float, float]:
    """Size of an operation of AutoAugment and what a sign is drawn for, at this part of the largest."""
    if name in ("ShearX", "ShearY"):
        return 0, 0.3 * part
    if name in ("TranslateX", "TranslateY"):
        return 0, 150 / 331 * part
    if name in ("Color", "Contrast", "Brightness", "Sharpness"):
        return 1, 0.9 * part
    return {"Rotate": 30 * part, "Posterize": round(8 - 4 * part), "Solarize": 256 - 256 * part}.get(name, 0), 0


class Reach(NamedTuple):
    """Size of an operation of RandAugment: start + sign * span * magnitude, the magnitude from 0 to 1.

    Attributes:
        start: Size at magnitude 0.
        span: How far it goes.
        sign: 1 or -1; 0 is drawn.
        whole: Whether what is added is cut off behind the point.
    """

    start: float = 0
    span: float = 0
    sign: int = 0
    whole: bool = False


_REACH = {
    "AutoContrast": Reach(),
    "Equalize": Reach(),
    "Invert": Reach(),
    "Rotate": Reach(span=30),
    "Posterize": Reach(4, 4, -1, True),
    "Solarize": Reach(256, 256, -1, True),
    "SolarizeAdd": Reach(0, 110, 1, True),
    "Color": Reach(1, 0.9),
    "Contrast": Reach(1, 0.9),
    "Brightness": Reach(1, 0.9),
    "Sharpness": Reach(1, 0.9),
    "ShearX": Reach(span=0.3),
    "ShearY": Reach(span=0.3),
    "TranslateX": Reach(span=0.45),
    "TranslateY": Reach(span=0.45),
}
RAND_LISTS = {
    "timm": tuple(_REACH),
    "spikformer": ("Equalize", "Rotate", "ShearX", "TranslateX", "TranslateY"),
}


class RandAugment(AugmentPolicy):
    """Some operations of about the same magnitude, drawn from a list (Cubuk et al., 2020), as timm has it.

    This is timm's "rand-mM-nN-mstd0.4-inc1": each operation that was drawn happens with probability 0.5, the magnitude
    has normal noise, shears, shifts and turns interpolate (bicubic). Posterize to 0 bits, where noise takes m9 to 10
    (1 image in 5,000), is black; the newest Pillow refuses it.

    Args:
        operations: N, operations for each image.
        magnitude: 0 to 30: three times timm's M, that is 27 for its m9.
        choose_from: "timm" for its list of 15, "spikformer" for the five that Spikformer's code for CIFAR leaves.
        fill: Colour of what comes in from outside, 0 to 255: timm takes the mean of the normalisation.

    Raises:
        ValueError: There is no such list.
    """

    NOISE = 0.4  # standard deviation of the magnitude in timm's units, of which 10 are the whole ("mstd0.4")

    def __init__(
        self, operations: int, magnitude: int, choose_from: str = "timm", fill: Sequence[int] = (_GREY,)
    ) -> None:
        super().__init__(WARPS, fill)
        if choose_from not in RAND_LISTS:
            raise ValueError(f"rand_from={choose_from!r} is no list of operations: choose one of {sorted(RAND_LISTS)}")
        self._operations, self._magnitude = operations, magnitude / 3
        names = RAND_LISTS[choose_from]
        self._number_N = torch.tensor([self.names.index(name) for name in names])
        reaches = torch.tensor([_REACH[name] for name in names], dtype=torch.float64)
        self._start_N, self._span_N, self._sign_N, self._whole_N = reaches.unbind(1)

    def choose(self, keys_B: Tensor) -> list[Step]:
        """See `AugmentPolicy`."""
        keys_4SB = branches(keys_B, Stream.RAND_AUGMENT, 4 * self._operations).unflatten(0, (4, -1))
        which_SB = draw(keys_4SB[0], Stream.RAND_AUGMENT, len(self._number_N))
        drawn_SB = 1 - 2 * draw(keys_4SB[1], Stream.RAND_AUGMENT, 2)
        happens_SB = draw(keys_4SB[2], Stream.RAND_AUGMENT, 2) == 0
        noise_SB = torch.special.ndtri((draw(keys_4SB[3], Stream.RAND_AUGMENT, _SURE) + 0.5).double() / _SURE)
        part_SB = (self._magnitude + self.NOISE * noise_SB).clamp(0, 10) / 10
        added_SB = self._span_N[which_SB] * part_SB
        added_SB = torch.where(self._whole_N[which_SB] > 0, added_SB.floor(), added_SB)
        sign_SB = torch.where(self._sign_N[which_SB] == 0, drawn_SB, self._sign_N[which_SB])
        operation_SB = torch.where(happens_SB, self._number_N[which_SB], -1)
        return [Step(*step) for step in zip(operation_SB, self._start_N[which_SB] + sign_SB * added_SB, strict=True)]
