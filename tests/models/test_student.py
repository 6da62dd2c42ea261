from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from tser_lightning.errors import UsageError
from tser_lightning.measure.firing import FiringRates
from tser_lightning.models import Network, Student, resnet18, resnet_small, vgg_small
from tser_lightning.neurons import LIF, Neuron
from tser_lightning.neurons.clock import Clock, OverTime


def eval_student(timesteps: int = 3) -> Student:
    torch.manual_seed(0)
    student = Student(resnet_small(10, 1, LIF), timesteps)
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):  # else hardly a neuron of an untrained network fires
            nn.init.uniform_(module.weight, 1, 3)
            nn.init.uniform_(module.bias, 0, 1)
    return student.double().eval()


@pytest.fixture
def images_BCHW() -> Tensor:
    return torch.randn(4, 1, 8, 8, dtype=torch.float64)


class LooksAhead(OverTime):
    """Gives every step the mean over time."""

    causal = False

    def forward(self, x: Tensor) -> Tensor:
        x_T = self.unfold(x)
        return self.fold(x_T.mean(0, keepdim=True).expand_as(x_T))


class Breaks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("broken")


def test_logits_have_time_first_and_differ_from_step_to_step(images_BCHW: Tensor) -> None:
    logits_TBC = eval_student()(images_BCHW)
    assert logits_TBC.shape == (3, 4, 10)
    assert not torch.equal(logits_TBC[0], logits_TBC[1])


def test_image_shown_for_T_steps_equals_T_frames_of_it(images_BCHW: Tensor) -> None:
    student = eval_student()
    torch.testing.assert_close(student(images_BCHW), student(images_BCHW.expand(3, -1, -1, -1, -1)))


def test_event_frames_bring_their_own_number_of_steps(images_BCHW: Tensor) -> None:
    frames_TBCHW = torch.stack([images_BCHW, -images_BCHW])
    assert eval_student(timesteps=5)(frames_TBCHW).shape == (2, 4, 10)


def test_stem_is_computed_once_per_image_and_the_rest_at_every_step(images_BCHW: Tensor) -> None:
    student = eval_student()
    seen: dict[str, list[int]] = {}
    for name in ("conv1", "bn1", "layer1"):
        student.net.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs, name=name: seen.setdefault(name, []).append(len(inputs[0]))
        )
    student(images_BCHW)
    assert seen == {"conv1": [4], "bn1": [4], "layer1": [12]}


def test_one_step_equals_the_first_of_many(images_BCHW: Tensor) -> None:
    student = eval_student()
    first_BC = student(images_BCHW)[0]
    student.timesteps = 1
    torch.testing.assert_close(student(images_BCHW)[0], first_BC)


@pytest.mark.parametrize("frames", [False, True])
def test_stream_equals_the_full_call(images_BCHW: Tensor, frames: bool) -> None:
    student = eval_student()
    images = torch.stack([images_BCHW, -images_BCHW, images_BCHW]) if frames else images_BCHW
    torch.testing.assert_close(torch.stack(list(student.stream(images))), student(images))


def test_a_stream_computes_what_comes_before_the_first_neuron_once(images_BCHW: Tensor) -> None:
    student = eval_student()
    seen: list[str] = []
    convs = {name: conv for name, conv in student.net.named_modules() if isinstance(conv, nn.Conv2d)}
    for name, conv in convs.items():
        conv.register_forward_hook(lambda conv, _, y, name=name: seen.append(f"{name} {id(y)}"))
    with torch.no_grad():
        expected = student(images_BCHW)
        seen.clear()
        found = list(student.stream(images_BCHW))
        assert len({call for call in seen if call.startswith("conv1 ")}) == 1  # the same tensor at all steps
        torch.testing.assert_close(torch.stack(found), expected)
        stream = student.stream(images_BCHW)
        next(stream)
        keep_B = torch.tensor([False, True, True, False])
        torch.testing.assert_close(stream.send(keep_B), expected[1, keep_B])
        torch.testing.assert_close(next(stream), expected[2, keep_B])
    assert not any("forward" in vars(module) for module in student.modules())


@torch.inference_mode()
def test_images_leave_a_stream_under_inference_mode(images_BCHW: Tensor) -> None:
    student, keep_B = eval_student(), torch.tensor([False, True, True, False])
    expected = student(images_BCHW)
    for images in (images_BCHW, images_BCHW.clone()):  # not of inference mode itself, and of it
        stream = student.stream(images)
        next(stream)
        torch.testing.assert_close(stream.send(keep_B), expected[1, keep_B])
        torch.testing.assert_close(next(stream), expected[2, keep_B])


class Changes(nn.Module):
    """Adds to what its convolution gives, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.spike, self.fc = nn.Conv2d(1, 4, 3), LIF(), nn.Linear(144, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.spike(self.conv(x).add_(0.5)).flatten(1))
        return logits


def test_what_was_changed_in_place_is_computed_again_while_a_student_streams(images_BCHW: Tensor) -> None:
    student = Student(Changes(), 3).double().eval()
    with torch.no_grad():
        torch.testing.assert_close(torch.stack(list(student.stream(images_BCHW))), student(images_BCHW))


def test_stream_of_a_network_that_looks_ahead_equals_the_full_call(images_BCHW: Tensor) -> None:
    net = nn.Sequential(LIF(), LooksAhead(), nn.Flatten(), nn.Linear(64, 10)).double()
    student = Student(net, 3)
    torch.testing.assert_close(torch.stack(list(student.stream(images_BCHW))), student(images_BCHW))


def test_interleaved_streams_and_calls_do_not_touch_each_other(images_BCHW: Tensor) -> None:
    student = eval_student()
    one, other = student.stream(images_BCHW), student.stream(-images_BCHW)
    steps = []
    for pair in zip(one, other, strict=True):
        steps.append(torch.stack(pair))
        student(images_BCHW)
    expected = torch.stack([student(images_BCHW), student(-images_BCHW)], dim=1)
    torch.testing.assert_close(torch.stack(steps), expected)


def test_an_abandoned_stream_leaves_no_state(images_BCHW: Tensor) -> None:
    student = eval_student()
    before = student(images_BCHW)
    stream: Iterator[Tensor] = student.stream(images_BCHW)
    next(stream)
    assert student.clock == Clock()
    torch.testing.assert_close(student(images_BCHW), before)


def test_calls_are_independent(images_BCHW: Tensor) -> None:
    student = eval_student()
    first = student(images_BCHW)
    student(-images_BCHW)
    assert torch.equal(student(images_BCHW), first)


def test_an_error_inside_a_call_leaves_no_state(images_BCHW: Tensor) -> None:
    student = eval_student()
    before = student(images_BCHW)
    student.net.add_module("fc", Breaks())
    with pytest.raises(RuntimeError, match="broken"):
        student(images_BCHW)
    with pytest.raises(RuntimeError, match="broken"):
        next(iter(student.stream(images_BCHW)))
    assert student.clock == Clock()
    student.net.add_module("fc", eval_student().net.get_submodule("fc"))
    assert torch.equal(student(images_BCHW), before)


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True, "4"])
def test_timesteps_that_are_no_integer_from_1_are_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="timesteps"):
        eval_student().timesteps = wrong  # type: ignore[assignment]


def test_a_network_without_a_neuron_is_refused() -> None:
    with pytest.raises(ValueError, match="no neuron"):
        Student(resnet18(10), 4)


def test_images_of_another_rank_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[B, C, H, W\]"):
        eval_student()(torch.zeros(1, 8, 8))


@pytest.mark.parametrize("build", [resnet_small, vgg_small])
def test_a_student_learns_a_small_batch_by_heart(build: type[Network]) -> None:
    torch.manual_seed(0)
    student = Student(build(4, 1, LIF), 2)
    images_BCHW, labels_B = torch.randn(16, 1, 8, 8), torch.arange(16) % 4
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(student(images_BCHW).mean(0), labels_B).backward()
        optimizer.step()
    assert (student(images_BCHW).mean(0).argmax(-1) == labels_B).float().mean() > 0.9


def test_neurons_of_another_library_are_refused_unless_one_of_ours_holds_them() -> None:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    functional = pytest.importorskip("spikingjelly.activation_based.functional")

    class JellyLIF(Neuron):
        causal = False

        def __init__(self, channels: int) -> None:
            super().__init__()
            self.node = neuron.LIFNode(step_mode="m", detach_reset=False)

        def run(self, currents_TB: Tensor, state: object) -> tuple[Tensor, None]:
            functional.reset_net(self.node)
            return self.node(currents_TB), None

    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)]
    with pytest.raises(UsageError, match=r"2 \(QIFNode of spikingjelly\)") as refused:
        Student(nn.Sequential(*layers, neuron.QIFNode(), LIF()), 4)
    assert "class Wrapped(Neuron)" in refused.value.fix
    rest = [nn.Flatten(), nn.Linear(8 * 36, 10)]
    ours, theirs = (Student(nn.Sequential(*layers, spike, *rest), 4) for spike in (LIF(8), JellyLIF(8)))
    images_BCHW = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with FiringRates(theirs) as rates:
        torch.testing.assert_close(theirs(images_BCHW), ours(images_BCHW))
    assert rates.compute().measures()["firing_rate"] > 1
    torch.testing.assert_close(torch.stack(list(theirs.stream(images_BCHW))), ours(images_BCHW))


def test_what_is_no_network_is_no_student() -> None:
    with pytest.raises(UsageError, match="the student is a str, not a network"):
        Student("a network", 4)  # type: ignore[arg-type]


def test_a_stream_in_float32_gives_the_call_but_for_rounding() -> None:
    student, images_BCHW = eval_student(timesteps=4).float(), torch.randn(8, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(
            torch.stack(list(student.stream(images_BCHW))), student(images_BCHW), atol=1e-6, rtol=0
        )
