"""What every architecture keeps, found by its file in conf/architecture; and every norm, by its file in conf/norm."""

import copy
import importlib
from functools import cache, partial
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from tser_lightning.config.hydra_loader import Configs
from tser_lightning.errors import UsageError
from tser_lightning.models import Factory, Network, Student, relu
from tser_lightning.neurons import LIF, MPBN, PFA
from tser_lightning.neurons.clock import Clock, OverTime
from tser_lightning.registry.architectures import options

CONFIGS = Configs()


def names(group: str) -> list[str]:
    """Every option of a config group but the form that a user fills in, and the family's name for its first size."""
    sizes = {file for file, size in options(CONFIGS.architectures, "student").values() if size}
    return [name for name in CONFIGS.options(group) if name != "custom" and name not in sizes]


STUDENTS, NEURONS, NORMS = names("student"), names("neuron"), names("norm")
SMALL = ("resnet_small", "vgg_small")
TINY: dict[str, dict[str, Any]] = {
    "resnet_small": {"widths": [8, 16]},
    "vgg_small": {},
    "sew_resnet18": {"stem": "cifar"},
    "preact_resnet34": {"stem": "cifar"},
    "spikformer_4_256": {"depth": 1, "dim": 32, "heads": 4},
    "spikingformer_4_256": {"depth": 1, "dim": 32, "heads": 4},
    "sdt_2_512": {"depth": 1, "dim": 32, "heads": 4},
}
T, B = 2, 2
IMAGES_BCHW = torch.randn(B, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

every_student = pytest.mark.parametrize(
    "name", [name if name in SMALL else pytest.param(name, marks=pytest.mark.slow) for name in STUDENTS]
)


def settings(group: str, name: str, **changes: Any) -> tuple[Any, dict[str, Any]]:
    """The target and the plain settings of a config file."""
    config = CONFIGS.compose(["experiment=none", f"{group}={name}"]).config
    config.student.timesteps = T
    config[group].update(changes)
    plain: Any = OmegaConf.to_container(config, resolve=True)[group]  # type: ignore[call-overload,index]
    module, target = plain.pop("_target_").rsplit(".", 1)
    return getattr(importlib.import_module(module), target), plain


def build(name: str, activation: Factory, norm: Factory = nn.BatchNorm2d, **changes: Any) -> Network:
    factory, plain = settings("student", name, **changes)
    plain = {key: value for key, value in plain.items() if key not in ("timesteps", "weights")}
    net: Network = factory(num_classes=10, in_channels=3, activation=activation, norm=norm, **plain)
    return net


@cache
def built(name: str) -> Student:
    """A student in which neurons fire at every depth; tests that change it take a copy."""
    torch.manual_seed(0)
    return fired(Student(build(name, partial(LIF, v_threshold=0.5)), T))


def fired(student: Student, images_BCHW: Tensor = IMAGES_BCHW) -> Student:
    """Shift and measure the norms so that neurons fire; in float64, or the rounding of a convolution flips spikes."""
    for module in student.double().modules():
        if isinstance(module, nn.BatchNorm2d):
            if module.bias is None:  # BNTT
                nn.init.uniform_(module.weight, 2, 4)
            else:
                nn.init.uniform_(module.bias, 0, 0.5)
            module.momentum = 1
    student(images_BCHW)
    return student.eval()


def assert_finite_gradients(student: Student, images_BCHW: Tensor = IMAGES_BCHW) -> None:
    student.train()
    student(images_BCHW).square().mean().backward()
    for name, parameter in student.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@every_student
def test_forward_backward_and_stream(name: str) -> None:
    student = copy.deepcopy(built(name))
    with torch.no_grad():
        logits_TBC = student(IMAGES_BCHW)
        assert logits_TBC.shape == (T, B, 10)
        assert not torch.equal(logits_TBC[0], logits_TBC[1])
        for _ in range(2):  # as modules, and replayed where that is possible
            torch.testing.assert_close(torch.stack(list(student.stream(IMAGES_BCHW))), logits_TBC)
        torch.testing.assert_close(student(IMAGES_BCHW.expand(T, -1, -1, -1, -1)), logits_TBC)
        student.timesteps = 3
        torch.testing.assert_close(student(IMAGES_BCHW)[:T], logits_TBC)
    student.timesteps = T
    assert_finite_gradients(student)
    student.float().eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert student(IMAGES_BCHW.float()).isfinite().all()


@every_student
def test_weights_go_from_the_ann_twin_to_the_student_and_round(name: str) -> None:
    ann, student = build(name, relu), copy.deepcopy(built(name))
    student.net.load_state_dict(ann.state_dict(), strict=True)
    assert all(torch.equal(weight, student.net.state_dict()[key]) for key, weight in ann.state_dict().items())
    logits_BC = ann.eval()(IMAGES_BCHW.float())
    assert logits_BC.shape == (B, 10)
    assert logits_BC.isfinite().all()
    with pytest.raises(ValueError, match="no neuron"):
        Student(ann, T)


@every_student
def test_stages_are_maps_and_the_classifier_is_linear(name: str) -> None:
    net, shapes = copy.deepcopy(built(name).net), {}
    assert isinstance(net, Network)
    for stage, path in net.stages.items():
        net.get_submodule(path).register_forward_hook(
            lambda _, inputs, output, stage=stage: shapes.update({stage: tuple(output.shape)})
        )
    classifier = net.get_submodule(net.penultimate)
    assert isinstance(classifier, nn.Linear)
    with torch.no_grad():
        Student(net, T)(IMAGES_BCHW)
    assert list(net.stages) == ["stage1", "stage2", "stage3", "stage4"]
    assert all(len(shape) == 4 for shape in shapes.values())
    # the stem of a Max-ResNet has no neuron: what it makes of an image is the same at all steps
    first = B if name == "max_resnet18" else T * B
    assert [shape[0] for shape in shapes.values()] == [first, T * B, T * B, T * B]


@every_student
def test_everything_before_the_first_neuron_sees_an_image_once(name: str) -> None:
    student, first = copy.deepcopy(built(name)), []
    convolution = next(module for module in student.modules() if isinstance(module, nn.Conv2d))
    convolution.register_forward_hook(lambda _, inputs, output: first.append(len(output)))
    with torch.no_grad():
        student(IMAGES_BCHW)
    assert first == [B]


def has_an_ann(name: str, norm_name: str) -> bool:
    """Whether all is linear between activations and alike at all steps: what a conversion asks for."""
    return "resnet" in name or "vgg" in name if norm_name in ("bn", "tdbn") else False


def assert_keeps_the_contract(name: str, neuron_name: str, norm_name: str, **changes: Any) -> None:
    torch.manual_seed(0)
    images_BCHW = IMAGES_BCHW[..., ::2, ::2]
    (neuron_class, neuron), (norm_class, norm) = settings("neuron", neuron_name), settings("norm", norm_name)
    activation, norm_factory = partial(neuron_class, **neuron), partial(norm_class, **norm)
    if neuron_name == "qcfs" and not has_an_ann(name, norm_name):
        with pytest.raises(UsageError, match="QCFS"):
            fired(Student(build(name, activation, norm_factory, **TINY[name], **changes), T), images_BCHW)
        return
    student = fired(Student(build(name, activation, norm_factory, **TINY[name], **changes), T), images_BCHW)
    assert_finite_gradients(student, images_BCHW)
    copied = Student(build(name, activation, norm_factory, **TINY[name], **changes), T).double().eval()
    copied.load_state_dict(student.eval().state_dict(), strict=True)
    with torch.no_grad():
        logits_TBC = student(images_BCHW)
        for _ in range(2):  # as modules, and replayed where that is possible
            torch.testing.assert_close(torch.stack(list(student.stream(images_BCHW))), logits_TBC)
        torch.testing.assert_close(copied(images_BCHW), logits_TBC)
        student.timesteps = 3
        assert student(images_BCHW).shape == (3, B, 10)
        student.float()
        with torch.autocast("cpu", torch.bfloat16):
            assert student(images_BCHW.float()).isfinite().all()


@pytest.mark.parametrize("norm_name", NORMS)
@pytest.mark.parametrize("name", ["resnet_small", "vgg_small", "spikformer_4_256"])
def test_every_norm_fits_every_kind_of_network(name: str, norm_name: str) -> None:
    assert_keeps_the_contract(name, "lif", norm_name)


@pytest.mark.parametrize("neuron_name", NEURONS)
@pytest.mark.parametrize("name", ["resnet_small", "spikformer_4_256"])
def test_every_neuron_fits_every_kind_of_network(name: str, neuron_name: str) -> None:
    assert_keeps_the_contract(name, neuron_name, "bn")


@pytest.mark.slow
@pytest.mark.parametrize("norm_name", NORMS)
@pytest.mark.parametrize("neuron_name", NEURONS)
@pytest.mark.parametrize("name", TINY)
def test_every_family_with_every_neuron_and_every_norm(name: str, neuron_name: str, norm_name: str) -> None:
    assert_keeps_the_contract(name, neuron_name, norm_name)


@pytest.mark.parametrize(
    "name",
    [
        "resnet_small",
        "vgg_small",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("sew_resnet18", "preact_resnet34")),
    ],
)
def test_attention_fits_the_convolutional_networks(name: str) -> None:
    assert_keeps_the_contract(name, "lif", "bn", attention="pfa")


class NormAtEveryStep(MPBN):
    """MPBN's published equations in evaluation, with nothing folded."""

    def run(self, currents_TB: Tensor, state: Any) -> tuple[Tensor, Any]:
        assert self.norm is not None
        v, spikes = torch.zeros_like(currents_TB[0]), []
        for x in currents_TB:
            h = 0.25 * v + x
            s = (self.norm(h) >= 0.5).to(h)
            spikes.append(s)
            v = h * (1 - s)
        return torch.stack(spikes), v


@pytest.mark.parametrize("name", ["resnet_small", "vgg_small", "spikformer_4_256"])
def test_mpbn_folded_into_thresholds_gives_equal_logits(name: str) -> None:
    torch.manual_seed(0)
    student = fired(Student(build(name, MPBN, **TINY[name]), T))
    reference = Student(build(name, NormAtEveryStep, **TINY[name]), T).double().eval()
    reference.load_state_dict(student.state_dict())
    for module in student.modules():
        if isinstance(module, MPBN):
            module.fold_norm()
    with torch.no_grad():
        logits_TBC = reference(IMAGES_BCHW)
        assert logits_TBC[0].ne(logits_TBC[1]).any()
        assert torch.equal(student(IMAGES_BCHW), logits_TBC)


@pytest.mark.parametrize("name", ["resnet_small", "vgg_small", "cnn_small"])
def test_attention_on_the_input_weighs_an_image_at_every_step_before_the_first_layer(name: str) -> None:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"attention": "pfa_input", "attention_timesteps": 3}
    student = Student(build(name, LIF, **settings), timesteps=3)  # in train mode, in which neurons fire from the start
    first = student.net.get_submodule("attention0")
    assert isinstance(first, PFA)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        logits = student(images)
        alone = PFA(3, timesteps=3, rank=4)
        alone.load_state_dict(first.state_dict())
        frames = alone(images.expand(3, *images.shape))
        student.net.attention0 = nn.Identity()
        torch.testing.assert_close(logits, student(frames))
        assert not torch.allclose(logits, student(images))


def test_an_unknown_attention_is_refused() -> None:
    with pytest.raises(ValueError, match="attention"):
        build("resnet_small", LIF, attention="se")


def test_every_name_of_a_student_exists() -> None:
    sizes = ("4_256", "2_384", "4_384", "8_384", "6_512")
    transformers = [f"{family}_{s}" for family in ("spikformer", "spikingformer", "spikingformer_cml") for s in sizes]
    networks = ["resnet18", "resnet19", "resnet34", "vgg11", "vgg16", "sew_resnet18", "sew_resnet34", "sew_resnet50"]
    assert {*transformers, *networks, "preact_resnet34", "sdt_2_512", "sdt_8_384"} <= set(STUDENTS)


def test_a_failing_call_leaves_the_clock_of_every_neuron_at_rest() -> None:
    student = copy.deepcopy(built("resnet_small"))
    with pytest.raises(RuntimeError):
        student(torch.zeros(B, 5, 32, 32, dtype=torch.float64))
    clocks = [module.clock for module in student.modules() if isinstance(module, OverTime)]
    assert all(clock == Clock() for clock in clocks)
    assert len({id(clock) for clock in clocks}) == 1
    assert student(IMAGES_BCHW).isfinite().all()
