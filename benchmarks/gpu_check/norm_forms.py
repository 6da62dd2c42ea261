"""The kernels of batch norm with LIF against eager: layout, static, residual, running statistics, odd sizes, T."""

import itertools

from benchmarks.gpu_check.comparison import DTYPES, IN_SMALL, compare
from benchmarks.gpu_check.lines import Report
from benchmarks.gpu_check.norm_kernels import SHAPE, Form, case

SHAPES = ((3, 4, 1, 1), (2, 1, 5, 5), (1, 3, 40, 40), (70, 2, 4, 4), (2, 66, 3, 3))
STEPS = (1, 2, 7, 13)


def main(report: Report) -> None:
    """Compare and report."""
    every = [Form(SHAPE, 4, *how) for how in itertools.product((False, True), repeat=4)]
    for dtype in DTYPES[:1] if IN_SMALL else DTYPES[:2]:
        what = f"norm and LIF, {dtype}, layout, static, residual, batch or running statistics"
        compare(report, what, [case("form", form, dtype) for form in every])
    sizes = [Form(shape, 2, last, residual=last) for shape in SHAPES for last in (False, True)]
    compare(report, "norm and LIF, odd sizes", [case("size", form) for form in sizes])
    compare(report, "norm and LIF, T from 1 to 13", [case("T", Form((2, 5, 3, 7), steps)) for steps in STEPS])
