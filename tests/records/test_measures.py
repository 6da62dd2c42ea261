import importlib.util
import statistics

import pytest
import torch

from tser_lightning.measure.energy import student_energy, teacher_energy
from tser_lightning.measure.operation_counter import OperationCounter
from tser_lightning.measure.student_measures import StudentMeasures
from tser_lightning.records.measures import MEASURES, measure, measured

RESULT = {"test/acc": 97.0, "test/acc_step1": 90.0, "test/acc_step2": 96.0, "test/acc_step3": 93.0, "seed": 3}


def test_whatever_is_measured_of_a_student_is_declared() -> None:
    student_TBC, teacher_BC, labels_B = torch.randn(3, 8, 6), torch.randn(8, 6), torch.randint(6, (8,))
    measures = StudentMeasures(3, 6)
    measures.update(student_TBC, teacher_BC, labels_B)
    network = torch.nn.Linear(4, 2)
    with OperationCounter(network) as counter:
        network(torch.rand(5, 4))
    named = {*measures.compute(), *student_energy(counter.compute()), *teacher_energy(counter.compute())}
    names = {f"teacher/{name[8:]}" if name.startswith("teacher_") else f"test/{name}" for name in named}
    assert len(names) > 20
    assert [name for name in names if not measure(name).meaning] == []


@pytest.mark.parametrize("source", sorted({each.source for each in MEASURES}))
def test_the_module_that_computes_a_measure_is_there(source: str) -> None:
    assert importlib.util.find_spec(f"tser_lightning.{source}") is not None


def test_no_two_measures_have_one_name_or_one_title() -> None:
    assert len({each.name for each in MEASURES}) == len({each.title for each in MEASURES}) == len(MEASURES)


def test_one_of_a_family_says_which_step_it_is() -> None:
    found = measure("test/acc_step12")
    assert (found.name, found.heading, found.better) == (
        "test/acc_step12",
        "test accuracy, step 12 alone, in %",
        "higher",
    )
    assert measure("train/brd").title == "training: brd"
    assert measure("train/kl").title == "training KL to the teacher"
    assert measure("train/loss").title == "training loss"


def test_what_the_single_steps_reach_is_worked_out_of_their_accuracies() -> None:
    assert measure("test/acc_step_mean").of(RESULT) == pytest.approx(93.0)
    assert measure("test/acc_step_std").of(RESULT) == pytest.approx(statistics.stdev([90.0, 96.0, 93.0]))
    assert measure("test/acc_step_std").of({"test/acc_step1": 90.0}) is None
    assert [each.name for each in measured(RESULT)] == [
        "test/acc",
        "test/acc_step1",
        "test/acc_step2",
        "test/acc_step3",
        "test/acc_step_mean",
        "test/acc_step_std",
    ]


def test_a_number_that_nobody_declared_keeps_its_name_and_is_neither_good_nor_bad() -> None:
    found = measure("test/margin")
    assert (found.heading, found.better, found.source) == ("test/margin", "", "")
    assert found.printed(0.25) == "0.2500"
