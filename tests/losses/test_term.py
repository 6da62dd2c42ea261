from math import inf, nan

import pytest

from tser_lightning.errors import UsageError
from tser_lightning.losses import Needs, Term
from tser_lightning.losses.term import positive


@pytest.mark.parametrize("weight", [nan, inf, -inf])
def test_a_weight_is_finite(weight: float) -> None:
    with pytest.raises(UsageError, match="weight"):
        Term(weight)


def test_a_term_needs_nothing_unless_it_says_so() -> None:
    term = Term(weight=-2)
    assert (term.weight, term.needs_teacher, term.needs) == (-2.0, False, Needs())


def test_a_range_names_the_setting() -> None:
    assert positive("tau", 0.1) == 0.1
    for wrong in (0, -1, nan):
        with pytest.raises(UsageError, match="tau"):
            positive("tau", wrong)
