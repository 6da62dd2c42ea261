"""The rules against curves of which every decision was worked out by hand."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tser_lightning.data import Digits
from tser_lightning.losses import DistillationLoss
from tser_lightning.models import Student
from tser_lightning.training import Machine, Recipe, Teacher, fit
from tser_lightning.training.pruning import ASHA, Median, Pruning, Verdict


def ended(verdict: Verdict | None) -> bool:
    assert verdict is not None
    return verdict.stop


def test_asha_compares_at_its_rungs_alone() -> None:
    rule = ASHA(min_epochs=2, eta=3)  # rungs at 2, 6, 18
    curve = [(epoch, 50.0) for epoch in range(1, 21)]
    asked = [epoch for epoch in range(1, 21) if rule.judge([curve[:epoch]], [], epoch, epoch - 1) is not None]
    assert asked == [2, 6, 18]


def test_asha_lets_the_best_third_of_those_that_have_come_go_on() -> None:
    rule = ASHA(min_epochs=2, eta=3)
    at_the_rung = [62.0, 70.0, 55.0, 66.0, 71.0, 69.0, 64.0]  # in the order in which they come
    # n   kept = max(1, n // 3)   place         goes on
    # 1   1                       62 is 1st     yes
    # 2   1                       70 is 1st     yes
    # 3   1                       55 is 3rd     no
    # 4   1                       66 is 2nd     no
    # 5   1                       71 is 1st     yes
    # 6   2                       69 is 3rd     no
    # 7   2                       64 is 5th     no
    going_on = []
    for place, accuracy in enumerate(at_the_rung):
        others = [[[(1, 90.0), (2, before)]] for before in at_the_rung[:place]]
        going_on.append(not ended(rule.judge([[(1, 1.0), (2, accuracy)]], others, 2, 1)))
    assert going_on == [True, True, False, False, True, False, False]


def test_asha_takes_what_others_had_at_the_rung_and_not_what_they_have_now() -> None:
    later = [[(1, 10.0), (2, 60.0), (3, 99.0)]]
    short = [[(1, 95.0)]]  # has not come to the rung
    assert not ended(ASHA(2, 2).judge([[(1, 0.0), (2, 61.0)]], [later, short], 2, 1))
    assert ended(ASHA(2, 2).judge([[(1, 0.0), (2, 59.0)]], [later, short], 2, 1))


def test_asha_with_validations_that_skip_a_rung_compares_at_the_next_one() -> None:
    rule = ASHA(min_epochs=2, eta=2)  # rungs 2, 4, 8; validated at 3, 6, 9
    assert ended(rule.judge([[(3, 50.0)]], [[[(3, 60.0)]]], 3, 0))
    assert ended(rule.judge([[(3, 50.0), (6, 70.0)]], [[[(3, 60.0), (6, 80.0)]]], 6, 3))
    assert rule.judge([[(3, 50.0), (6, 70.0), (7, 71.0)]], [[[(3, 60.0), (6, 80.0)]]], 7, 6) is None


def test_methods_are_compared_by_the_mean_of_their_seeds() -> None:
    own = [[(2, 60.0)], [(2, 70.0)], [(1, 5.0)]]  # two of three seeds have come: 65
    assert ended(ASHA(2, 2).judge(own, [[[(2, 65.5)]]], 2, 1))
    assert not ended(ASHA(2, 2).judge(own, [[[(2, 60.0)], [(2, 69.0)]]], 2, 1))  # 64.5


def test_a_method_below_the_median_of_running_averages_ends() -> None:
    rule = Median(min_epochs=3)
    others = [
        [[(1, 20.0), (2, 40.0), (3, 60.0)]],  # 40
        [[(1, 30.0), (2, 60.0), (3, 63.0)]],  # 51
        [[(1, 10.0), (2, 11.0), (3, 12.0), (4, 99.0)]],  # 11: up to the same epoch
        [[(1, 90.0), (2, 90.0)]],  # has not come so far
    ]
    assert rule.judge([[(1, 0.0), (2, 0.0)]], others, 2, 1) is None
    assert ended(rule.judge([[(1, 39.0), (2, 30.0), (3, 20.0)]], others, 3, 2))  # 39 < 40
    assert not ended(rule.judge([[(1, 41.0), (2, 30.0), (3, 20.0)]], others, 3, 2))  # its best epoch counts
    assert rule.judge([[(3, 1.0)]], [], 3, 0) is None  # nobody to compare with


def test_a_training_ends_with_the_epoch_that_was_not_good_enough_and_can_go_on_as_if_it_had_not(
    student: Student, teacher: Teacher, tser: DistillationLoss, digits: Digits, recipe: Recipe, tmp_path: Path
) -> None:
    longer = dataclasses.replace(recipe, epochs=3, steps=1)
    machine = Machine(accelerator="cpu", workers=0)
    asked: list[tuple[int, float]] = []
    rows: dict[str, list[Any]] = {"whole": [], "pruned": []}

    def stops(epoch: int, accuracy: float) -> bool:
        asked.append((epoch, accuracy))
        return epoch == 2

    state = {name: value.clone() for name, value in student.state_dict().items()}
    for name, callbacks in (("whole", []), ("pruned", [Pruning(stops)]), ("pruned", [])):
        student.load_state_dict(state)
        fit(
            *(student, tser, teacher, digits, tmp_path / name),
            recipe=longer,
            machine=machine,
            callbacks=callbacks,
            record=rows[name].append,
        )
        if callbacks:
            assert [row["epoch"] for row in rows[name]] == [0, 1]
            assert [epoch for epoch, _ in asked] == [1, 2]
            assert [accuracy for _, accuracy in asked] == pytest.approx([row["val/acc"] for row in rows[name]])
    assert rows["pruned"] == rows["whole"]
