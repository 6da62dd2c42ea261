"""AutoAugment and RandAugment of a batch: each of torchvision's operations once, for all images that drew it.

What an image draws are numbers of its key; what an operation does is torchvision's own.
Legend: B image, S step of the operations, one after the other, A action, P policy.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms import v2

from tser_lightning.data.draws import Stream, branches, draw

_SURE = 1 << 31  # a probability is so many of the numbers that are drawn from


class Action(NamedTuple):
    """An operation of torchvision by its name, which of its magnitudes, and the sign of that."""

    name: str
    magnitude: int | None
    sign: int


class Operations(ABC):
    """Operations that torchvision's `transform` chooses from, for whole batches.

    Args:
        transform: AutoAugment or RandAugment of torchvision.
        bins: Number of magnitudes of an operation.
        operations: Name and magnitude of every operation that may be drawn.

    Attributes:
        actions: What may happen to an image. An operation that has a sign is two of them, the positive one first.
    """

    def __init__(self, transform: Any, bins: int, operations: Iterable[tuple[str, int | None]]) -> None:
        self._transform, self._bins, self._space = transform, bins, transform._AUGMENTATION_SPACE
        self.actions: list[Action] = []
        self._first: dict[tuple[str, int | None], int] = {}
        for name, magnitude in operations:
            if (name, magnitude) not in self._first:
                self._first[name, magnitude] = len(self.actions)
                self.actions += [Action(name, magnitude, sign) for sign in (1, -1)[: 1 + self.signed(name)]]

    def signed(self, name: str) -> bool:
        """Whether an operation goes both ways."""
        return bool(self._space[name][1])

    @abstractmethod
    def choose(self, keys_B: Tensor) -> Tensor:
        """Draw for every step and image the number of an action, or -1 for none; int64 [S, B]."""

    def apply(self, action: Action, images_BCHW: Tensor) -> Tensor:
        """Do one thing to some images."""
        name, magnitude, sign = action
        sizes = self._space[name][0](self._bins, *images_BCHW.shape[-2:])
        size = 0.0 if sizes is None else sign * float(sizes[magnitude])
        done: Tensor = self._transform._apply_image_or_video_transform(
            images_BCHW, name, size, self._transform.interpolation, self._transform._fill
        )
        return done

    def __call__(self, images_BCHW: Tensor, keys_B: Tensor) -> Tensor:
        """Augment uint8 images, each by what its key says."""
        images_BCHW = images_BCHW.clone()
        for numbers_B in self.choose(keys_B.cpu()):
            for number in numbers_B.unique().tolist():
                if number >= 0:
                    rows = (numbers_B == number).nonzero().flatten().to(images_BCHW.device, non_blocking=True)
                    done = self.apply(self.actions[number], images_BCHW.index_select(0, rows))
                    images_BCHW.index_copy_(0, rows, done)
        return images_BCHW


class AutoAugment(Operations):
    """One of 25 pairs of operations, each with its probability (Cubuk et al., CVPR 2019).

    Args:
        policy: "cifar10", "imagenet" or "svhn".

    Raises:
        ValueError: There is no such policy.
    """

    def __init__(self, policy: str) -> None:
        known = {choice.value: choice for choice in v2.AutoAugmentPolicy}
        if policy not in known:
            raise ValueError(f"auto={policy!r} is no AutoAugment policy: choose one of {sorted(known)} or null")
        transform = v2.AutoAugment(known[policy])
        pairs = transform._policies
        super().__init__(transform, 10, [(name, magnitude) for pair in pairs for name, _, magnitude in pair])
        steps = list(zip(*pairs, strict=True))
        self._number_SP = torch.tensor([[self._first[name, size] for name, _, size in step] for step in steps])
        self._signed_SP = torch.tensor([[self.signed(name) for name, _, _ in step] for step in steps]).long()
        self._chance_SP = torch.tensor([[round(chance * _SURE) for _, chance, _ in step] for step in steps])

    def choose(self, keys_B: Tensor) -> Tensor:
        """See `Operations`."""
        policy, *others = branches(keys_B, Stream.AUTOAUGMENT, 5)
        policy_B = draw(policy, Stream.AUTOAUGMENT, self._number_SP.shape[1])
        negative_SB = draw(torch.stack(others[:2]), Stream.AUTOAUGMENT, 2)
        happens_SB = draw(torch.stack(others[2:]), Stream.AUTOAUGMENT, _SURE) < self._chance_SP[:, policy_B]
        number_SB = self._number_SP[:, policy_B] + self._signed_SP[:, policy_B] * negative_SB
        return torch.where(happens_SB, number_SB, -1)


class RandAugment(Operations):
    """Some operations of the same magnitude, drawn from all of them (Cubuk et al., 2020).

    Args:
        operations: S.
        magnitude: 0 to 30.
    """

    def __init__(self, operations: int, magnitude: int) -> None:
        transform = v2.RandAugment(operations, magnitude)
        names = list(transform._AUGMENTATION_SPACE)
        super().__init__(transform, transform.num_magnitude_bins, [(name, magnitude) for name in names])
        self._operations = operations
        self._number_A = torch.tensor([self._first[name, magnitude] for name in names])
        self._signed_A = torch.tensor([self.signed(name) for name in names]).long()

    def choose(self, keys_B: Tensor) -> Tensor:
        """See `Operations`."""
        keys_2SB = branches(keys_B, Stream.RAND_AUGMENT, 2 * self._operations).unflatten(0, (2, -1))
        which_SB = draw(keys_2SB[0], Stream.RAND_AUGMENT, len(self._number_A))
        return self._number_A[which_SB] + self._signed_A[which_SB] * draw(keys_2SB[1], Stream.RAND_AUGMENT, 2)
