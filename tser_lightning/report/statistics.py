"""What a handful of seeds can and cannot say."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """A number over seeds.

    Attributes:
        n: How many seeds.
        mean: Their mean.
        std: Standard deviation over seeds, with n - 1; None for one seed.
        interval: Interval that holds the true mean in 95 of 100 repetitions, if the numbers are normally distributed
            (Student's t with n - 1 degrees of freedom); None for one seed.
        reason: Why there is no interval; empty if there is one.
    """

    n: int
    mean: float
    std: float | None = None
    interval: tuple[float, float] | None = None
    reason: str = ""


def summarise(values: Sequence[float], confidence: float = 0.95) -> Summary:
    """Summarise a number over seeds.

    Args:
        values: One per seed, at least one.
        confidence: Confidence level of the interval, in (0, 1).
    """
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Summary(1, mean, reason="one seed: nothing is known about the spread")
    if not all(map(math.isfinite, values)):
        return Summary(len(values), mean, reason="not all values are finite")
    from scipy.stats import t  # here, because it takes seconds

    std = statistics.stdev(values)
    half = float(t.ppf(0.5 + confidence / 2, len(values) - 1)) * std / math.sqrt(len(values))
    return Summary(len(values), mean, std, (mean - half, mean + half))


@dataclass(frozen=True)
class Comparison:
    """A paired comparison with a baseline.

    Attributes:
        n: How many seeds both have.
        difference: Mean difference over these, None if there are none.
        p: Two-sided p-value of the paired t-test; None where there is no such test.
        reason: Why there is no p-value; empty if there is one.
    """

    n: int
    difference: float | None = None
    p: float | None = None
    reason: str = ""


def compare(values: Mapping[int, float], baseline: Mapping[int, float]) -> Comparison:
    """Compare with a baseline, seed by seed (the same seed has the same order of the data).

    Args:
        values: The method's numbers by seed.
        baseline: The baseline's numbers by seed.
    """
    seeds = sorted(set(values) & set(baseline))
    if not seeds:
        return Comparison(0, reason="no seed in common with the baseline")
    differences = [values[seed] - baseline[seed] for seed in seeds]
    if not all(map(math.isfinite, differences)):
        return Comparison(len(seeds), reason="not all values are finite")
    mean = statistics.fmean(differences)
    if len(seeds) == 1:
        return Comparison(1, mean, reason="one seed in common with the baseline")
    if statistics.stdev(differences) <= 1e-9:  # equal differences leave rounding noise behind
        return Comparison(len(seeds), mean, reason="the difference is the same for every seed")
    from scipy.stats import ttest_rel

    test = ttest_rel([values[seed] for seed in seeds], [baseline[seed] for seed in seeds])
    return Comparison(len(seeds), mean, float(test.pvalue))
