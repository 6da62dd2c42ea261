import pytest

from tser_lightning.data import Digits
from tser_lightning.models import Student
from tser_lightning.neurons import Neuron
from tser_lightning.training import Machine, evaluate_network

CPU = Machine(accelerator="cpu", workers=0)


@pytest.mark.parametrize(("threshold", "words"), [(1e9, "ever fired"), (-1e9, "fire nearly always")])
def test_layers_that_say_nothing_are_named(
    student: Student, digits: Digits, caplog: pytest.LogCaptureFixture, threshold: float, words: str
) -> None:
    neurons = {path: module for path, module in student.net.named_modules() if isinstance(module, Neuron)}
    for neuron in neurons.values():
        vars(neuron)["v_threshold"] = threshold
    evaluate_network(student, None, digits, "test", machine=CPU)
    [line] = [record.getMessage() for record in caplog.records if words in record.getMessage()]
    assert all(path in line for path in neurons)
