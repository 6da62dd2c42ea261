import pytest
from torch import nn

from tser_lightning.data import Digits
from tser_lightning.models import Student
from tser_lightning.neurons import Neuron
from tser_lightning.training import Machine, evaluate_network

CPU = Machine(accelerator="cpu", workers=0)


@pytest.mark.parametrize(("bias", "words"), [(-1e9, "ever fired"), (1e9, "fire nearly always")])
def test_layers_that_say_nothing_are_named(
    student: Student, digits: Digits, caplog: pytest.LogCaptureFixture, bias: float, words: str
) -> None:
    neurons = {path: module for path, module in student.net.named_modules() if isinstance(module, Neuron)}
    for norm in (module for module in student.net.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.constant_(norm.bias, bias)
    evaluate_network(student, None, digits, "test", machine=CPU)
    [line] = [record.getMessage() for record in caplog.records if words in record.getMessage()]
    assert all(path in line for path in neurons)
