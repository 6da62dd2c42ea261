"""Networks of SpikingJelly and snnTorch as students, compared with what these libraries make of them.

Legend: T time step, B image.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tser_lightning.errors import UsageError
from tser_lightning.measure.features import penultimate_features
from tser_lightning.measure.firing import FiringRates
from tser_lightning.measure.operation_counter import OperationCounter
from tser_lightning.models import Student
from tser_lightning.neurons import LIF
from tser_lightning.training.loss_context import StudentHooks

T = 5


def jelly(name: str) -> Any:
    return pytest.importorskip(f"spikingjelly.activation_based.{name}")


def torch_neuron(name: str, **settings: Any) -> nn.Module:
    snntorch = pytest.importorskip("snntorch")
    neuron: nn.Module = getattr(snntorch, name)(init_hidden=True, **settings)
    return neuron


class InFloat64(nn.Module):
    """The spikes of snnTorch are float32 whatever comes in."""

    def forward(self, x: Tensor) -> Tensor:
        return x.double()


def layers(first: nn.Module, second: nn.Module) -> nn.Sequential:
    """Images [B, 2, 6, 6] to logits [B, 7], one time step."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8)
    nn.init.uniform_(norm.weight, 1, 2)
    nn.init.uniform_(norm.bias, 0, 1)
    second_conv = nn.Conv2d(8, 8, 2)
    nn.init.normal_(second_conv.weight, 0.1, 0.4)  # enough that the second neurons fire, at some steps
    stem = [nn.Conv2d(2, 8, 3, padding=1), norm, first, InFloat64(), nn.MaxPool2d(2), second_conv]
    return nn.Sequential(*stem, second, InFloat64(), nn.Flatten(), nn.Linear(32, 7)).double().eval()


def frames() -> Tensor:
    return torch.randn(T, 6, 2, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def jelly_run(net: nn.Module, images_TB: Tensor) -> Tensor:
    jelly("functional").reset_net(net)
    return torch.stack([net(images_B) for images_B in images_TB])


def torch_run(net: nn.Module, images_TB: Tensor) -> Tensor:
    for module in net.modules():
        if callable(reset := getattr(module, "reset_mem", None)):
            reset()
    return torch.stack([net(images_B) for images_B in images_TB])


def jelly_neurons() -> dict[str, Callable[[], nn.Module]]:
    neuron, surrogate = jelly("neuron"), jelly("surrogate")
    return {
        "if": lambda: neuron.IFNode(),
        "if, soft": lambda: neuron.IFNode(v_reset=None, v_threshold=0.7, surrogate_function=surrogate.ATan()),
        "lif": lambda: neuron.LIFNode(tau=3.0, surrogate_function=surrogate.PiecewiseQuadratic(2.0)),
        "lif, public": lambda: neuron.LIFNode(decay_input=False, detach_reset=True, v_threshold=0.5),
        "lif, soft": lambda: neuron.LIFNode(tau=1.5, v_reset=None, surrogate_function=surrogate.Rect(alpha=0.5)),
        "plif": lambda: neuron.ParametricLIFNode(init_tau=3.0, surrogate_function=surrogate.Sigmoid(2.0)),
        "plif, public": lambda: neuron.ParametricLIFNode(init_tau=1.5, decay_input=False, v_reset=None),
    }


def check_equal(net: nn.Module, run: Callable[[nn.Module, Tensor], Tensor], rounding: float = 1e-9) -> None:
    """Compare logits and gradients of a student with those of the network that it was made of."""
    theirs, student = net, Student(copy.deepcopy(net), T)
    images_TB = frames()
    expected_TBC, found_TBC = run(theirs, images_TB), student(images_TB)
    assert (found_TBC - expected_TBC).abs().max() == 0
    assert expected_TBC.std(0).max() > 0  # time matters
    weight_TBC = torch.randn_like(expected_TBC)
    (expected_TBC * weight_TBC).sum().backward()
    (found_TBC * weight_TBC).sum().backward()
    own, others = dict(student.net.named_parameters()), dict(theirs.named_parameters())
    assert own.keys() == others.keys()
    assert any(bool(parameter.grad.abs().sum() > 0) for parameter in others.values() if parameter.grad is not None)
    for name, parameter in others.items():
        torch.testing.assert_close(own[name].grad, parameter.grad, rtol=rounding, atol=rounding, msg=name)
    torch.testing.assert_close(torch.stack(list(student.stream(images_TB))), found_TBC, rtol=0, atol=1e-12)
    still_TBC = student(images_TB[0])
    assert (still_TBC - run(theirs, images_TB[0].expand_as(images_TB))).abs().max() == 0
    student.timesteps = 2
    assert torch.equal(student(images_TB[0]), still_TBC[:2])


@pytest.mark.parametrize("name", ["if", "if, soft", "lif", "lif, public", "lif, soft", "plif", "plif, public"])
def test_a_single_step_network_of_spikingjelly_is_computed_to_the_last_bit(name: str) -> None:
    make = jelly_neurons()[name]
    check_equal(layers(make(), make()), jelly_run)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Leaky", {"beta": 0.9}),
        ("Leaky", {"beta": 0.5, "threshold": 0.7, "reset_mechanism": "zero"}),
        ("Leaky", {"beta": 0.8, "reset_mechanism": "zero", "reset_delay": False}),
        ("Leaky", {"beta": 0.9, "learn_beta": True}),
        ("Leaky", {"beta": torch.tensor([0.6]), "learn_beta": True, "reset_mechanism": "zero"}),
        ("Leaky", {"beta": 1.2, "learn_beta": True}),  # cut to 1, where it has no gradient
        ("Lapicque", {"R": 1.0, "C": 1.8}),
        ("Lapicque", {"R": 3.0, "C": 1.0}),
    ],
)
def test_a_network_of_snntorch_is_computed_to_the_last_bit(kind: str, settings: dict[str, Any]) -> None:
    pytest.importorskip("snntorch")
    surrogate = pytest.importorskip("snntorch.surrogate")
    first, second = surrogate.fast_sigmoid(slope=3), surrogate.sigmoid(slope=5)
    check_equal(
        layers(torch_neuron(kind, spike_grad=first, **settings), torch_neuron(kind, spike_grad=second, **settings)),
        torch_run,
        rounding=1e-5,  # its gradients are float32, as its spikes are
    )


class MultiStep(nn.Module):
    """In step mode "m", with time-first shapes in its own forward, as in SpikingJelly's transformers."""

    def __init__(self, plif: bool = False) -> None:
        super().__init__()
        layer, neuron = jelly("layer"), jelly("neuron")
        torch.manual_seed(0)
        self.stem = layer.SeqToANNContainer(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.spike = neuron.LIFNode(step_mode="m", tau=1.5)
        self.conv = layer.Conv2d(8, 8, 3, step_mode="m")
        self.again = neuron.ParametricLIFNode(step_mode="m") if plif else neuron.IFNode(step_mode="m", v_reset=None)
        self.fc = layer.Linear(8, 7, step_mode="m")
        nn.init.uniform_(self.stem[1].weight, 1, 3)
        nn.init.normal_(self.conv.weight, 0.1, 0.4)

    def forward(self, x_TB: Tensor) -> Tensor:
        steps, images = x_TB.shape[:2]
        x_TB = self.again(self.conv(self.spike(self.stem(x_TB))))
        logits_TB: Tensor = self.fc(x_TB.reshape(steps, images, 8, -1).mean(-1))
        return logits_TB


def jelly_multi_run(net: nn.Module, images_TB: Tensor) -> Tensor:
    jelly("functional").reset_net(net)
    found: Tensor = net(images_TB)
    return found


@pytest.mark.parametrize("plif", [False, True])
def test_a_multi_step_network_of_spikingjelly_is_computed_to_the_last_bit(plif: bool) -> None:
    check_equal(MultiStep(plif).double().eval(), jelly_multi_run)


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("family", ["spiking_resnet", "sew_resnet"])
def test_the_resnets_of_spikingjelly_are_computed_to_the_last_bit(family: str, mode: str) -> None:
    neuron, functional, models = jelly("neuron"), jelly("functional"), jelly(f"model.{family}")
    torch.manual_seed(0)
    more = {"cnf": "ADD"} if family == "sew_resnet" else {}
    net = getattr(models, f"{family}18")(spiking_neuron=neuron.IFNode, num_classes=5, v_threshold=0.5, **more)
    functional.set_step_mode(net, mode)
    net = net.double().eval()
    images_TB = torch.randn(2, 2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        expected = (jelly_multi_run if mode == "m" else jelly_run)(net, images_TB)
        assert (Student(net, 2)(images_TB) - expected).abs().max() == 0
    assert expected.std() > 0


def test_measures_of_a_multi_step_network_are_those_of_the_same_network_step_by_step() -> None:
    """Features, firing rates and operations, with three images at three steps, where axes are easily mistaken."""
    several = MultiStep().double().eval()
    folded = nn.Sequential(
        several.stem[0],
        several.stem[1],
        LIF(decay=1 / 3),
        nn.Conv2d(8, 8, 3),
        LIF(decay=1.0, decay_input=False, reset="soft"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 7),
    )
    folded[3].load_state_dict(several.conv.state_dict())
    folded[7].load_state_dict(several.fc.state_dict())
    images, labels = torch.randn(3, 2, 6, 6, dtype=torch.float64), torch.arange(3)
    found = []
    for student, spike, conv in (
        (Student(several, 3), "spike", "conv"),
        (Student(folded.double().eval(), 3), "2", "3"),
    ):
        features, _ = penultimate_features(student, [(images, labels)])
        with FiringRates(student) as rates, OperationCounter(student) as counter, torch.no_grad():
            student(images)
        layers = counter.compute().layers

        class Sees(nn.Module):
            student_taps = (conv,)

        hooks = StudentHooks(student, Sees())
        student(images)
        (seen_TB,) = hooks.take(3, 3).student_features.values()
        firing = rates.compute().layers[spike]
        found.append((features, firing.rate_by_step, firing.neurons, layers[conv], seen_TB))
    (features, *counts, seen_TB), (expected, *expected_counts, expected_TB) = found
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(seen_TB, expected_TB)
    assert counts == expected_counts


def test_a_student_of_spikingjellys_neurons_learns() -> None:
    neuron = jelly("neuron")
    student = Student(layers(neuron.LIFNode(), neuron.ParametricLIFNode()).train(), T)
    images, labels = frames()[0], torch.arange(6)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(student(images).mean(0), labels)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 3


def refusals() -> dict[str, tuple[Callable[[], nn.Module], str]]:
    neuron, layer, surrogate = jelly("neuron"), jelly("layer"), jelly("surrogate")

    class Mine(neuron.LIFNode):  # type: ignore[name-defined]
        pass

    return {
        "another reset value": (lambda: neuron.IFNode(v_reset=-0.5), r"0 \(IFNode of spikingjelly\): v_reset=-0.5"),
        "membranes": (lambda: neuron.IFNode(store_v_seq=True), "asks for its membranes"),
        "a surrogate": (lambda: neuron.IFNode(surrogate_function=surrogate.Erf()), "Erf.* has no counterpart"),
        "no spikes": (lambda: neuron.IFNode(surrogate_function=surrogate.ATan(spiking=False)), "no counterpart"),
        "another neuron": (lambda: neuron.QIFNode(), "QIFNode of spikingjelly.*no counterpart"),
        "an inherited one": (Mine, "no counterpart"),
        "another memory": (lambda: layer.Dropout(), "Dropout of spikingjelly.*no counterpart"),
        "no threshold": (lambda: neuron.IFNode(v_threshold=-1.0), "a value that no neuron takes"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "another reset value",
        "membranes",
        "a surrogate",
        "no spikes",
        "another neuron",
        "an inherited one",
        "another memory",
        "no threshold",
    ],
)
def test_what_spikingjelly_computes_otherwise_is_refused(name: str) -> None:
    make, said = refusals()[name]
    with pytest.raises(UsageError, match=said):
        Student(nn.Sequential(make(), nn.Flatten(), LIF()), T)


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("Leaky", {"beta": 0.9, "reset_mechanism": "none"}, "reset_mechanism='none'"),
        ("Leaky", {"beta": 0.9, "reset_delay": False}, "reset_delay=False"),
        ("Leaky", {"beta": 0.9, "output": True}, "output=True"),
        ("Leaky", {"beta": torch.tensor([0.9, 0.5]), "learn_beta": True}, "beta is learnt, or one for each neuron"),
        ("Leaky", {"beta": torch.tensor([0.9, 0.5])}, "one for each neuron"),
        ("Leaky", {"beta": 0.9, "learn_threshold": True}, "threshold is learnt"),
        ("Leaky", {"beta": 0.9, "graded_spikes_factor": 2.0}, "graded_spikes_factor"),
        ("Leaky", {"beta": 0.9, "surrogate_disable": True}, "spike_grad"),
        ("Lapicque", {"R": 1.0, "C": 1.8, "reset_mechanism": "zero"}, "Lapicque.*reset_mechanism='zero'"),
        ("Lapicque", {"R": 2.0, "C": 1.8}, "weighed by time_step / C"),
        ("Synaptic", {"alpha": 0.9, "beta": 0.9}, "Synaptic of snntorch.*no counterpart"),
    ],
)
def test_what_snntorch_computes_otherwise_is_refused(kind: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Student(nn.Sequential(torch_neuron(kind, **settings), nn.Flatten(), LIF()), T)


def test_a_loop_over_time_inside_a_network_is_refused() -> None:
    neuron = jelly("neuron")

    class Loops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spike, self.fc = neuron.IFNode(), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(sum(self.spike(x.flatten(1)) for _ in range(T)) / T)
            return out

    with pytest.raises(UsageError, match=f"called {T} times"):
        Student(Loops(), T)(torch.randn(2, 1, 2, 2))


def test_neurons_of_both_step_modes_and_a_mean_over_time_are_refused() -> None:
    neuron = jelly("neuron")
    with pytest.raises(UsageError, match="step mode 's', others in 'm'"):
        Student(nn.Sequential(neuron.IFNode(), neuron.IFNode(step_mode="m")), T)

    class Rate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spike = neuron.IFNode(step_mode="m")

        def forward(self, x_TB: Tensor) -> Tensor:
            rate: Tensor = self.spike(x_TB).flatten(2).mean(0)
            return rate

    with pytest.raises(UsageError, match=r"not \[T, B, classes\]"):
        Student(Rate(), T)(torch.randn(2, 1, 2, 2))


def test_a_leak_keeps_the_meaning_of_its_parameter() -> None:
    neuron = jelly("neuron")
    node = neuron.ParametricLIFNode(init_tau=4.0)
    student = Student(nn.Sequential(node), 1)
    own = student.net.get_submodule("0")
    assert isinstance(own, LIF)
    leak = own.leak()
    assert leak is not None
    assert math.isclose(float(leak.detach()), 0.75, rel_tol=1e-6)
    assert own.get_parameter("w") is node.w


def test_a_transformer_of_spikingjelly_is_computed_to_the_last_bit() -> None:
    spikformer = jelly("model.spikformer")
    torch.manual_seed(0)
    net = spikformer.Spikformer(
        T=3, img_size_h=32, img_size_w=32, patch_size=16, num_classes=7, embed_dims=32, num_heads=4, depths=1
    ).double()
    images_TB = torch.randn(3, 2, 3, 32, 32, dtype=torch.float64)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0  # statistics that let its neurons fire
    with torch.no_grad():
        jelly_multi_run(net, images_TB)
        expected_TBC = jelly_multi_run(net.eval(), images_TB)
        assert expected_TBC.std(0).max() > 0
        assert (Student(net, 3)(images_TB) - expected_TBC).abs().max() == 0
