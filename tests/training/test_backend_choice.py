from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tser_lightning.data.synthetic import Synthetic
from tser_lightning.errors import UsageError
from tser_lightning.kernels.backend_compiled import compiled_body
from tser_lightning.models import Student, relu
from tser_lightning.models.resnet import resnet_small
from tser_lightning.neurons import LIF, PLIF
from tser_lightning.training import Machine, Recipe
from tser_lightning.training.backend_choice import check_compiled, faster_backend, is_open, use_backend

ON_CPU = Machine(accelerator="cpu")
FOR_EVER = Recipe(epochs=10**7)


def small(neuron: Any = LIF) -> Student:
    torch.manual_seed(0)
    return Student(resnet_small(4, 3, neuron, widths=(4, 8)), timesteps=2)


def images() -> Synthetic:
    return Synthetic(4, (3, 8, 8), train_images=24, test_images=4, batch_size=8)


def backends(student: nn.Module) -> set[str]:
    return {module.spec.backend for module in student.modules() if isinstance(module, LIF)}


@pytest.mark.parametrize(
    ("student", "machine", "expected"),
    [
        (small(), ON_CPU, True),
        (small(PLIF), Machine(accelerator="cpu", devices=1), True),
        (small(), Machine(accelerator="auto"), not torch.accelerator.is_available()),
        (small(), Machine(accelerator="gpu"), False),
        (small(), Machine(accelerator="cpu", devices=2), False),
        (small(), Machine(accelerator="cpu", compile=True), False),
        (small(partial(LIF, backend="eager")), ON_CPU, False),
        (resnet_small(4, 3, relu, widths=(4,)), ON_CPU, False),
    ],
)
def test_one_process_on_a_cpu_has_a_choice_for_neurons_that_name_no_backend(
    student: nn.Module, machine: Machine, expected: bool
) -> None:
    assert is_open(student, machine) is expected


def test_a_choice_leaves_neurons_alone_that_name_their_backend() -> None:
    student = small()
    named = next(module for module in student.modules() if isinstance(module, LIF))
    use_backend(named, "reference")
    use_backend(student, "compiled")
    assert named.spec.backend == "reference"
    assert backends(student) == {"reference", "compiled"}


def test_chosen_eager_neurons_have_the_bits_of_auto() -> None:
    before, after = small(), small()
    use_backend(after, "eager")
    given = torch.rand(3, 3, 8, 8)
    assert torch.equal(before(given), after(given))
    assert before.state_dict().keys() == after.state_dict().keys()


class Untouchable(Synthetic):
    """Images that nobody may ask for."""

    def loader(self, *arguments: Any, **settings: Any) -> Any:
        """Refuse."""
        raise AssertionError("a training of few steps was tried")


def test_few_steps_are_not_tried() -> None:
    data = Untouchable(4, (3, 8, 8), train_images=24, test_images=4, batch_size=8)
    assert faster_backend(small(), data, Recipe(epochs=66), ON_CPU) == "eager"  # 198 steps
    assert faster_backend(small(), data, Recipe(epochs=199, steps=1), ON_CPU) == "eager"
    with pytest.raises(AssertionError):
        faster_backend(small(), data, Recipe(epochs=67), ON_CPU)


def test_a_training_that_is_shorter_than_the_warm_up_stays_eager_and_leaves_no_trace() -> None:
    student = small()
    weights = {name: value.clone() for name, value in student.state_dict().items()}
    made, drawn = compiled_body.cache_info().misses, torch.get_rng_state()
    assert faster_backend(student, images(), Recipe(epochs=100), ON_CPU) == "eager"
    assert compiled_body.cache_info().misses == made
    assert torch.equal(torch.get_rng_state(), drawn)
    assert backends(student) == {"auto"}
    assert all(torch.equal(value, weights[name]) for name, value in student.state_dict().items())


@pytest.mark.slow
def test_a_long_training_takes_the_one_that_was_faster_and_says_how_to_pin_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO", "tser_lightning"):
        name = faster_backend(small(), images(), FOR_EVER, ON_CPU)
    [said] = [record.getMessage() for record in caplog.records if record.name == "tser_lightning"]
    assert said.startswith(f"machine: {name} neurons chosen")
    assert "backend=eager or compiled" in said
    compiled, eager = (float(said.split(f" s {which}")[0].split()[-1]) for which in ("compiled", "eager"))
    assert (compiled < eager) == (name == "compiled")


@pytest.mark.slow
def test_without_a_compiler_neurons_stay_eager_and_a_run_that_had_one_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    no_compiler = config.patch({"cpp.cxx": (None, str(tmp_path / "no compiler"))})
    with no_compiler, caplog.at_level("INFO", "tser_lightning"):
        assert faster_backend(small(), images(), FOR_EVER, ON_CPU) == "eager"
        assert "cannot be compiled" in caplog.text
        with pytest.raises(UsageError, match="cannot be compiled any more"):
            check_compiled(small(), images(), FOR_EVER, ON_CPU)
