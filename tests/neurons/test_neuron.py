from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tser_lightning.neurons import GLIF, IF, ILIF, IMLIF, LIF, LSG, MPBN, PLIF, Clock, Neuron, lif

# How a network makes its neurons: from a number of channels.
Make = Callable[..., Neuron]
NEURONS: list[Make] = [LIF, IF, PLIF, GLIF, LSG, MPBN, IMLIF, ILIF, partial(LIF, reset="soft_delayed", v_init=0.4)]


@pytest.mark.parametrize(("neuron", "settings"), [(LIF, {}), (IF, {"decay": 1.0, "decay_input": False}), (PLIF, {})])
def test_outside_a_student_the_leading_axis_is_time(neuron: type[LIF], settings: dict[str, Any]) -> None:
    currents = torch.randn(4, 3, 2)
    torch.testing.assert_close(neuron()(currents), lif(currents, **settings)[0])


@pytest.mark.parametrize("neuron", NEURONS)
def test_folded_is_unfolded(neuron: Make) -> None:
    module, currents_TBC = neuron(2), 2 * torch.randn(3, 4, 2)
    expected = module(currents_TBC)
    module.clock = Clock(steps=3)
    assert torch.equal(module(currents_TBC.flatten(0, 1)), expected.flatten(0, 1))


@pytest.mark.parametrize("neuron", NEURONS)
def test_one_image_for_all_steps(neuron: Make) -> None:
    module, image_BC = neuron(2), 3 * torch.rand(4, 2)
    module.clock = Clock(steps=3, images=4)
    folded = module(image_BC)
    assert folded.shape == (12, 2)
    module.clock = Clock(steps=3)
    assert torch.equal(module(image_BC.repeat(3, 1)), folded)


@pytest.mark.parametrize("chunks", [[1, 1, 1, 1, 1, 1], [2, 4], [1, 3, 2]])
@pytest.mark.parametrize("neuron", NEURONS)
def test_streaming_gives_the_same(neuron: Make, chunks: list[int]) -> None:
    module, currents = neuron(2), 2 * torch.rand(6, 5, 2)
    expected = module(currents)
    carry: dict[Any, Any] = {}
    pieces = []
    ends = torch.tensor([0, *chunks]).cumsum(0).tolist()
    for start, end in pairwise(ends):
        module.clock = Clock(steps=end - start, first=start, carry=carry)
        pieces.append(module(currents[start:end].flatten(0, 1)))
    assert torch.equal(torch.cat(pieces), expected.flatten(0, 1))


@pytest.mark.parametrize("neuron", NEURONS)
def test_nothing_is_kept_from_call_to_call(neuron: Make) -> None:
    module, currents = neuron(3), torch.rand(1, 3, 3)
    assert torch.equal(module(currents), module(currents))


def test_if_by_hand() -> None:
    assert IF()(torch.tensor([0.5, 0.5, 0.75, 0.25])).tolist() == [0, 1, 0, 1]


def test_a_neuron_starts_from_its_initial_membrane_in_every_call() -> None:
    neuron = LIF(decay=0.5, decay_input=False, v_init=1.5)
    for _ in range(2):  # 0.75 + 0.25; then from 0
        assert neuron(torch.tensor([0.25, 0.5, 0.75])).tolist() == [1, 0, 1]


def test_the_delayed_reset_by_hand() -> None:
    neuron = LIF(decay=0.5, decay_input=False, reset="soft_delayed")
    # V = 1.5; 0.75 + 0.5 - 1 = 0.25; 0.125 + 1 = 1.125; 0.5625 + 0.5 - 1 = 0.0625
    assert neuron(torch.tensor([1.5, 0.5, 1.0, 0.5])).tolist() == [1, 0, 1, 0]


def test_the_learnt_leak_of_plif_has_the_gradient_of_the_graph() -> None:
    currents = 2 * torch.rand(5, 4, 3, dtype=torch.float64)
    grads = []
    for backend in ("eager", "reference"):
        module = PLIF(decay=0.3, backend=backend).double()
        assert [name for name, _ in module.named_parameters(recurse=False)] == ["w"]
        assert module.leak().item() == pytest.approx(0.3)
        module(currents).sum().backward()
        assert module.w.grad is not None
        grads.append(module.w.grad)
    assert grads[0] != 0
    torch.testing.assert_close(*grads)


def test_plif_is_spikingjellys() -> None:
    peers = pytest.importorskip("spikingjelly.activation_based.neuron")
    theirs, ours = peers.ParametricLIFNode(init_tau=4.0, step_mode="m").double(), PLIF(decay=0.75).double()
    x = (3 * torch.rand(5, 4, 3, dtype=torch.float64)).requires_grad_()
    assert torch.equal(ours(x), theirs(x))
    theirs.reset()
    (theirs_x, theirs_w) = torch.autograd.grad(theirs(x).sum(), (x, theirs.w))
    (ours_x, ours_w) = torch.autograd.grad(ours(x).sum(), (x, ours.w))
    torch.testing.assert_close(ours_x, theirs_x)
    torch.testing.assert_close(ours_w, -theirs_w)  # theirs learns 1 - decay


@pytest.mark.parametrize("neuron", NEURONS)
def test_state_dict_round_trip(neuron: Make) -> None:
    one, other = neuron(2).eval(), neuron(2).eval()
    for parameter in one.parameters():
        nn.init.normal_(parameter)
    other.load_state_dict(one.state_dict())
    currents = 2 * torch.rand(4, 6, 2)
    assert torch.equal(one(currents), other(currents))


@pytest.mark.parametrize("channels_first", [(4, 2), (4, 2, 3, 3)])
@pytest.mark.parametrize("neuron", NEURONS)
def test_bf16_currents_give_bf16_spikes_and_finite_gradients(neuron: Make, channels_first: tuple[int]) -> None:
    module = neuron(2)
    currents = (2 * torch.randn(3, *channels_first)).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        spikes = module(currents)
    assert spikes.dtype == torch.bfloat16
    assert set(spikes.unique().tolist()) <= set(range(module.max_spikes + 1))
    (spikes * torch.randn_like(spikes)).sum().backward()
    for tensor in (currents, *module.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("neuron", [LIF, *(pytest.param(neuron, marks=pytest.mark.slow) for neuron in NEURONS[1:])])
def test_traced_by_torch_compile_without_a_break(neuron: Make) -> None:
    module = neuron(2)
    x = (2 * torch.rand(3, 4, 2)).requires_grad_()

    def grads(run: Any) -> tuple[Tensor, ...]:
        spikes = run(x)
        return spikes, *torch.autograd.grad(spikes.square().sum(), (x, *module.parameters()))

    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for traced, ours in zip(grads(compiled), grads(module), strict=True):
        torch.testing.assert_close(traced, ours)


@pytest.mark.parametrize(
    ("neuron", "settings", "message"),
    [
        (LIF, {"decay": 1.5}, r"decay=1.5 is not in \[0, 1\]"),
        (LIF, {"decay": float("nan")}, "decay=nan"),
        (LIF, {"v_threshold": 0.0}, "v_threshold=0.0 is not above 0"),
        (LIF, {"v_init": float("inf")}, "v_init=inf is not finite"),
        (LIF, {"surrogate_scale": -1.0}, "surrogate_scale=-1.0 is not above 0"),
        (LIF, {"surrogate": "step"}, "'step' is not one of"),
        (LIF, {"reset": "none"}, "is not one of hard, soft, soft_delayed"),
        (PLIF, {"decay": 1.0}, "decay=1.0 is not between 0 and 1"),
    ],
)
def test_what_cannot_work_is_refused(neuron: Make, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        neuron(**settings)
