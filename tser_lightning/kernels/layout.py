"""Any tensor over time as a matrix [T, M], M in the order in which it lies in memory."""

import math

from torch import Tensor


class MemoryLayout:
    """How a tensor [T, ...] lies in memory, so that others can be read and written in the same order.

    An expanded time axis (stride 0: one image for all steps) stays one. Nothing is copied where a view will do.

    Args:
        tensor_TB: A tensor over time, [T, ...].
    """

    def __init__(self, tensor_TB: Tensor) -> None:
        self.shape = tensor_TB.shape
        self.order = sorted(range(1, tensor_TB.ndim), key=tensor_TB.stride, reverse=True)

    def matrix(self, tensor_TB: Tensor) -> Tensor:
        """[T, ...] of this shape to [T, M]."""
        return tensor_TB.permute(0, *self.order).reshape(self.shape[0], math.prod(self.shape[1:]))

    def vector(self, tensor_B: Tensor) -> Tensor:
        """One step, what can be expanded to [...], to [M]."""
        return tensor_B.expand(self.shape[1:]).permute([axis - 1 for axis in self.order]).reshape(-1)

    def unmatrix(self, matrix_TM: Tensor) -> Tensor:
        """[T, M] back to [T, ...], or one step [M] back to [...]."""
        steps = matrix_TM.ndim - 1
        stored = matrix_TM.view([*matrix_TM.shape[:steps], *(self.shape[axis] for axis in self.order)])
        back = [self.order.index(axis) + steps for axis in range(1, len(self.shape))]
        return stored.permute([*range(steps), *back])
