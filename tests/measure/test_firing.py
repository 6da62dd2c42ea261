from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes

from tser_lightning.measure import FiringRates
from tser_lightning.models.student import Student
from tser_lightning.neurons import ILIF, LIF

T, B = 3, 6


def small_student() -> Student:
    """12 neurons, then 20."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), LIF(), nn.Linear(12, 20), LIF(), nn.Linear(20, 5))
    return Student(net, T)


def images(seed: int = 0) -> Tensor:
    return 6 * torch.randn(B, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def spikes_of(student: Student, images_BCHW: Tensor) -> dict[str, Tensor]:
    """Spikes [T, B, M] of each layer, by running each neuron alone."""
    linear1, linear2 = student.get_submodule("net.1"), student.get_submodule("net.3")
    with torch.no_grad():
        first = LIF()(linear1(images_BCHW.flatten(1)).expand(T, B, 12))
        return {"2": first, "4": LIF()(linear2(first))}


def test_rates_equal_the_mean_of_the_spikes_in_both_definitions() -> None:
    student = small_student()
    with FiringRates(student) as rates:
        student(images())
    firing = rates.compute()
    spikes = spikes_of(student, images())
    assert list(firing.layers) == ["2", "4"]
    for path, spikes_TBM in spikes.items():
        layer = firing.layers[path]
        assert 0 < layer.rate < 100
        assert layer.rate == pytest.approx(100 * spikes_TBM.mean().item(), rel=1e-6)
        assert layer.rate_by_step == pytest.approx((100 * spikes_TBM.mean((1, 2))).tolist(), rel=1e-6)
        silent_M = (spikes_TBM == 0).all(0).all(0)
        assert layer.dead_neurons == pytest.approx(100 * silent_M.float().mean().item())
    weighted = (12 * spikes["2"].mean() + 20 * spikes["4"].mean()).item() / 32
    layered = (spikes["2"].mean() + spikes["4"].mean()).item() / 2
    assert firing.measures()["firing_rate"] == pytest.approx(100 * weighted, rel=1e-6)
    assert firing.measures()["firing_rate_layers"] == pytest.approx(100 * layered, rel=1e-6)


def test_a_dead_and_a_saturated_layer_are_found() -> None:
    student = small_student()
    with torch.no_grad():
        student.get_parameter("net.1.bias").fill_(1e4)
        student.get_parameter("net.3.bias").fill_(-1e4)
    with FiringRates(student) as rates:
        student(images())
    firing = rates.compute()
    saturated, dead = firing.layers["2"], firing.layers["4"]
    assert (saturated.rate, saturated.saturated_neurons, saturated.is_saturated, saturated.is_dead) == (
        100,
        100,
        True,
        False,
    )
    assert (dead.rate, dead.dead_neurons, dead.is_saturated, dead.is_dead) == (0, 100, False, True)
    assert firing.measures()["dead_layers"] == firing.measures()["saturated_layers"] == 1
    assert firing.measures()["dead_neurons"] == 100 * 20 / 32


def test_the_split_into_batches_changes_no_bit_and_hooks_are_gone_afterwards() -> None:
    student = small_student()
    with FiringRates(student) as whole:
        student(images())
    with FiringRates(student) as parts:
        student(images()[:1])
        student(images()[1:])
    student(images(1))
    assert parts.compute() == whole.compute()


def test_a_neuron_that_dies_for_one_batch_only_is_not_dead() -> None:
    neuron = LIF()
    with FiringRates(neuron) as rates:
        neuron(torch.zeros(2, 1, 1))
        neuron(torch.full((2, 1, 1), 9.0))
    layer = rates.compute().layers[""]
    assert (layer.rate, layer.dead_neurons, layer.saturated_neurons) == (50, 0, 0)


def _measure_a_share(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    student = small_student()
    with FiringRates(student) as rates:
        student(images()[:2] if rank == 0 else images()[2:])
    rates.reduce()
    assert rates.compute() == _whole(student)
    torch.distributed.destroy_process_group()


def _whole(student: Student) -> object:
    with FiringRates(student) as rates:
        student(images())
    return rates.compute()


def test_two_processes_with_uneven_shares_equal_one(tmp_path: Path) -> None:
    start_processes(_measure_a_share, (str(tmp_path),), nprocs=2, start_method="fork")


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="no neuron"):
        FiringRates(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="nothing was classified"):
        FiringRates(small_student()).compute()
    student = small_student()
    with FiringRates(student), pytest.raises(ValueError, match="streams"):
        next(student.stream(images()))


def test_counting_waits_for_no_device() -> None:
    student = small_student().to("meta")  # a meta tensor has no values: whatever asks for one fails
    with FiringRates(student) as rates:
        student(images().to("meta"))
    with pytest.raises(RuntimeError, match="meta"):
        rates.compute()


def test_numbers_of_spikes_are_rates_of_the_binary_steps_that_they_run_as() -> None:
    torch.manual_seed(0)
    neuron = ILIF(max_spikes=3)
    student = Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 12), neuron, nn.Linear(12, 5)), T)
    with torch.no_grad():
        student.get_parameter("net.1.bias")[:2] = torch.tensor([1e4, -1e4])
        counts_TBM = neuron(student.get_submodule("net.1")(images().flatten(1)).expand(T, B, 12))
    with FiringRates(student) as rates:
        student(images())
    layer, spikes = rates.compute().layers["2"], neuron.in_binary_steps(counts_TBM)
    assert counts_TBM.max() == 3
    assert layer.rate == pytest.approx(100 * spikes.mean().item(), rel=1e-6)
    assert layer.rate_by_step == pytest.approx((100 * spikes.view(T, -1).mean(1)).tolist(), rel=1e-6)
    assert layer.dead_neurons == pytest.approx(100 * (spikes == 0).all(0).all(0).float().mean().item())
    assert layer.saturated_neurons == pytest.approx(100 * (spikes == 1).all(0).all(0).float().mean().item())
    assert layer.saturated_neurons >= 100 / 12
