"""How the weight of a term changes during a training."""

from collections.abc import Sequence

import numpy as np


class PiecewiseLinear:
    """A factor that runs in straight lines between given points, and is constant before the first and after the last.

    Args:
        points: (fraction of the training that is done, factor), the fractions from 0 to 1 and not falling. Two points
            of the same fraction are a jump.

    Raises:
        ValueError: No points, or fractions that fall or are not in [0, 1].

    Examples:
        >>> warm_up = PiecewiseLinear([[0, 0], [0.1, 1]])
        >>> [round(warm_up(done), 2) for done in (0.0, 0.05, 0.5)]
        [0.0, 0.5, 1.0]
    """

    def __init__(self, points: Sequence[Sequence[float]]) -> None:
        if not points or any(len(point) != 2 for point in points):
            raise ValueError(f"a schedule is a list of points [fraction, factor], not {points!r}")
        self.fractions, self.factors = ([float(value) for value in axis] for axis in zip(*points, strict=True))
        if sorted(self.fractions) != self.fractions or not 0 <= self.fractions[0] <= self.fractions[-1] <= 1:
            raise ValueError(f"the fractions of a schedule rise from 0 to 1, but are {self.fractions}")
        if not np.isfinite(self.factors).all():
            raise ValueError(f"the factors of a schedule are finite numbers, but are {self.factors}")

    def __call__(self, progress: float) -> float:
        """Give the factor when `progress` of the training is done."""
        return float(np.interp(progress, self.fractions, self.factors))
