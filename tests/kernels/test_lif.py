from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import Tensor

from tser_lightning.kernels import backend_compiled
from tser_lightning.kernels.backends import backend_names
from tser_lightning.kernels.lif import lif
from tser_lightning.kernels.surrogate import SURROGATES

SWITCHES = [
    {"surrogate": surrogate, "reset": reset, "detach_reset": detach, "decay_input": decay_input}
    for surrogate, reset, detach, decay_input in product(SURROGATES, ("hard", "soft"), (False, True), (False, True))
]
DELAYED = [
    {"surrogate": "atan", "reset": "soft_delayed", "detach_reset": detach, "decay_input": decay_input}
    for detach, decay_input in product((False, True), repeat=2)
]


def numpy_lif(
    x: np.ndarray, decay: float, decay_input: bool, v_threshold: float, reset: str, v_init: float
) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 1-3 neuron by neuron, step by step, in x's precision."""
    number = x.dtype.type
    spikes = np.zeros_like(x)
    last = np.zeros(x.shape[1:], x.dtype)
    for neuron in np.ndindex(*x.shape[1:]):
        v = number(v_init)
        for t in range(len(x)):
            current = x[(t, *neuron)]
            late = number(v_threshold) if reset == "soft_delayed" and v >= v_threshold else number(0)
            v = number(decay) * v + (number(1 - decay) * current if decay_input else current) - late
            if v >= v_threshold:
                spikes[(t, *neuron)] = 1
                v = number(0) if reset == "hard" else v - number(v_threshold) if reset == "soft" else v
        last[neuron] = v
    return spikes, last


@settings(max_examples=60, deadline=None)
@given(
    x=arrays(
        st.sampled_from([np.float32, np.float64]),
        array_shapes(min_dims=1, max_dims=4, max_side=5),
        elements=st.floats(-4, 4, width=32),
    ),
    decay=st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]),
    decay_input=st.booleans(),
    v_threshold=st.sampled_from([0.5, 1.0, 1.7]),
    reset=st.sampled_from(["hard", "soft", "soft_delayed"]),
    v_init=st.sampled_from([0.0, 0.375]),
    tensor=st.booleans(),
    backend=st.sampled_from(["eager", "reference"]),
)
def test_equals_equation_2_spike_for_spike(
    x: np.ndarray,
    decay: float,
    decay_input: bool,
    v_threshold: float,
    reset: Any,
    v_init: float,
    tensor: bool,
    backend: str,
) -> None:
    spikes, last = numpy_lif(x, decay, decay_input, v_threshold, reset, v_init)
    ours, v_last = lif(
        torch.from_numpy(x),
        decay=decay,
        decay_input=decay_input,
        v_threshold=v_threshold,
        reset=reset,
        v_init=torch.tensor(v_init) if tensor else v_init,
        backend=backend,
    )
    np.testing.assert_array_equal(ours.numpy(), spikes)
    np.testing.assert_array_equal(v_last.numpy(), last)


def gradients(settings: dict[str, Any], backend: str, shape: tuple[int, ...]) -> list[Tensor]:
    """Outputs and the gradients of everything that has one, for random cotangents of spikes and last membrane."""
    source = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=source, dtype=torch.float64)

    x = (2 * draw(*shape)).requires_grad_()
    v_init = (0.3 * draw(*shape[1:])).requires_grad_()
    decay = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    spikes, v_last = lif(x, decay=decay, v_init=v_init, backend=backend, **settings)
    total = (spikes * draw(*shape)).sum() + (v_last * draw(*shape[1:])).sum()
    return [spikes, v_last, *torch.autograd.grad(total, (x, v_init, decay))]


@pytest.mark.parametrize("settings", [*SWITCHES, *DELAYED], ids=lambda s: "-".join(map(str, s.values())))
def test_backward_is_that_of_the_autograd_graph(settings: dict[str, Any]) -> None:
    results = [gradients(settings, backend, (5, 3, 7)) for backend in ("eager", "reference")]
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["eager", "reference", "compiled"])
@pytest.mark.parametrize("start", [0.0, 0.4, 1.2])
def test_the_delayed_reset_is_snntorchs_subtract(backend: str, start: float) -> None:
    """Spike for spike, membrane for membrane and in the gradient, which snnTorch does not send through the reset."""
    snntorch = pytest.importorskip("snntorch")
    beta, threshold = 0.75, 0.625  # exact in float32, in which it keeps them
    theirs = snntorch.Leaky(beta, threshold, spike_grad=snntorch.surrogate.atan(alpha=2.0), reset_mechanism="subtract")
    x = (torch.rand(12, 300, dtype=torch.float64)).requires_grad_()
    settings: Any = {"decay": 0.75, "decay_input": False, "v_threshold": 0.625, "v_init": start, "surrogate": "atan"}
    with torch.compiler.set_stance("force_eager"):
        spikes, v = lif(x, reset="soft_delayed", detach_reset=True, backend=backend, **settings)
        (grad,) = torch.autograd.grad((spikes * x.detach()).sum(), x)
    their_v, their_spikes = torch.full((300,), start, dtype=torch.float64), []
    for step in x.unbind():
        s, their_v = theirs(step, their_v)
        their_spikes.append(s)
    assert 0.2 < spikes.mean() < 0.8
    assert (spikes != torch.stack(their_spikes)).sum() == 0
    torch.testing.assert_close(v, their_v, rtol=0, atol=1e-14)
    (their_grad,) = torch.autograd.grad((torch.stack(their_spikes) * x.detach()).sum(), x)
    torch.testing.assert_close(grad, their_grad, rtol=1e-6, atol=1e-7)  # its spikes, and so their gradient, are float32


@pytest.mark.parametrize("backend", ["eager", "reference", pytest.param("compiled", marks=pytest.mark.slow)])
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_gradcheck_through_the_surrogate(backend: str, reset: Any) -> None:
    """Against differences of a smooth neuron, whose spikes near x are those of x and rise with the sigmoid around."""
    rng = np.random.default_rng(0)
    x, weights = 2 * rng.standard_normal((4, 3)), rng.standard_normal((4, 3))

    def sigmoid(h: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-3.0 * (h - 1)))

    def smooth(x: np.ndarray, fixed: list[tuple[np.ndarray, np.ndarray]] | None) -> tuple[float, Any]:
        v, total, seen = np.zeros(3), 0.0, []
        for t in range(4):
            h = 0.7 * v + 0.3 * x[t]
            seen.append(((h >= 1).astype(float), sigmoid(h)))
            fired, level = (seen if fixed is None else fixed)[t]
            s = fired + sigmoid(h) - level
            v = h * (1 - s) if reset == "hard" else h - s
            total += (weights[t] * s).sum()
        return total + (v**2).sum(), seen

    _, fixed = smooth(x, None)
    differences = np.zeros_like(x)
    for at in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[at], down[at] = up[at] + 1e-6, down[at] - 1e-6
        differences[at] = (smooth(up, fixed)[0] - smooth(down, fixed)[0]) / 2e-6
    ours = torch.tensor(x, requires_grad=True)
    spikes, v = lif(ours, decay=0.7, reset=reset, surrogate_scale=3.0, backend=backend)
    total = (spikes * torch.tensor(weights)).sum() + v.square().sum()
    np.testing.assert_allclose(torch.autograd.grad(total, ours)[0].numpy(), differences, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("backend", ["eager", pytest.param("compiled", marks=pytest.mark.slow)])
@pytest.mark.parametrize("settings", [SWITCHES[1], SWITCHES[14]], ids=lambda s: "-".join(map(str, s.values())))
def test_float32_flips_no_more_than_a_spike_in_a_million(backend: str, settings: dict[str, Any]) -> None:
    x = 2 * torch.randn(4, 300_001)
    cotangent = torch.randn_like(x)
    results = []
    for name in (backend, "reference"):
        currents = x.clone().requires_grad_()
        spikes, _ = lif(currents, backend=name, **settings)
        results.append((spikes, torch.autograd.grad(spikes, currents, cotangent)[0]))
    (ours, grad), (expected, expected_grad) = results
    same = (ours == expected).all(0)
    assert (ours != expected).sum() <= 1e-6 * x.numel()
    difference = (grad - expected_grad)[:, same]  # a flip is another gradient
    assert difference.norm() <= 1e-6 * expected_grad.norm()


@pytest.mark.slow
@pytest.mark.parametrize("settings", [SWITCHES[0], SWITCHES[7]], ids=lambda s: "-".join(map(str, s.values())))
def test_compiled_is_eager(settings: dict[str, Any]) -> None:
    torch.compiler.reset()
    for shape in [(4, 3, 7), (4, 5, 2, 3), (1, 6)]:
        results = [gradients(settings, backend, shape) for backend in ("compiled", "eager")]
        for ours, expected in zip(*results, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_compiled_keeps_layout_dtype_and_the_float32_membrane() -> None:
    torch.compiler.reset()
    x = (2 * torch.randn(6, 3, 5, 5)).bfloat16().to(memory_format=torch.channels_last).requires_grad_()
    cotangent = torch.randn_like(x)
    results = []
    for backend in ("compiled", "eager"):
        spikes, v_last = lif(x.unflatten(0, (3, 2)), backend=backend)
        assert v_last.dtype == torch.float32
        assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
        results.append([spikes, v_last, *torch.autograd.grad(spikes.flatten(0, 1), x, cotangent)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_two_steps_by_hand(reset: Any) -> None:
    # h1 = x1, s1 = [h1 >= 1], v1 = reset(h1); h2 = v1 / 2 + x2.   dL = d s2 with the rectangle of width 1, g = 1.
    x = torch.tensor([1.2, 0.9], dtype=torch.float64, requires_grad=True)
    spikes, _ = lif(x, decay_input=False, reset=reset, surrogate="rectangular")
    (grad,) = torch.autograd.grad(spikes[1], x)
    # hard: v1 = h1 (1 - s1): dv1/dh1 = (1 - s1) - h1 g = -1.2, h2 = 0.9.  soft: dv1/dh1 = 1 - g = 0, h2 = 1.0.
    expected = [-1.2 / 2, 1.0] if reset == "hard" else [0.0, 1.0]
    torch.testing.assert_close(grad, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    "settings",
    [s for s in SWITCHES if s["surrogate"] not in ("tanh", "fast_sigmoid")],  # which SpikingJelly does not have
    ids=lambda s: "-".join(map(str, s.values())),
)
def test_spikingjelly_has_the_same_spikes_and_gradients(settings: dict[str, Any]) -> None:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    theirs = pytest.importorskip("spikingjelly.activation_based.surrogate")
    peers = {
        "sigmoid": lambda: theirs.Sigmoid(alpha=4.0),
        "atan": lambda: theirs.ATan(alpha=2.0),
        "piecewise_quadratic": lambda: theirs.PiecewiseQuadratic(alpha=1.0),
        "triangle": lambda: theirs.PiecewiseQuadratic(alpha=1.0),
        "rectangular": lambda: theirs.Rect(alpha=1.0),
    }
    node = neuron.LIFNode(
        tau=2.5,
        decay_input=settings["decay_input"],
        v_reset=0.0 if settings["reset"] == "hard" else None,
        surrogate_function=peers[settings["surrogate"]](),
        detach_reset=settings["detach_reset"],
        step_mode="m",
    )
    x = (2 * torch.randn(6, 4, 5, dtype=torch.float64)).requires_grad_()
    cotangent = torch.randn_like(x)
    expected = node(x)
    spikes, _ = lif(x, decay=0.6, **settings)
    assert torch.equal(spikes, expected)
    (ours,), (peer,) = (torch.autograd.grad(y, x, cotangent) for y in (spikes, expected))
    torch.testing.assert_close(ours, peer)


def test_ties_fire() -> None:
    spikes, _ = lif(torch.tensor([[2.0, 2.0], [1.0, 3.0], [2.0, -1.0]]))
    assert spikes.tolist() == [[1, 1], [0, 1], [1, 0]]  # membranes 1, 1; 0.5, 1.5; 1.25, -0.5


def saved(*tensors: Tensor, **settings: Any) -> list[Tensor]:
    """What a forward pass keeps for the backward one."""
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        lif(*tensors, **settings)
    return kept


def test_keeps_only_its_input() -> None:
    x = torch.randn(4, 2, 3, requires_grad=True)
    (kept,) = saved(x)
    assert kept.data_ptr() == x.data_ptr()
    v_init = torch.zeros(2, 3)
    assert {t.data_ptr() for t in saved(x, v_init=v_init)} == {x.data_ptr(), v_init.data_ptr()}


def test_one_image_for_all_steps_is_not_copied() -> None:
    image = torch.randn(3, 2, 8, 8, requires_grad=True)
    frames = image.unsqueeze(0).expand(6, 3, 2, 8, 8)
    (kept,) = saved(frames)
    assert kept.data_ptr() == image.data_ptr()
    assert kept.untyped_storage().nbytes() == image.untyped_storage().nbytes()
    spikes, _ = lif(frames)
    copied = image.detach().repeat(6, 1, 1, 1, 1).requires_grad_()
    expected, _ = lif(copied)
    assert torch.equal(spikes, expected)
    (grad,) = torch.autograd.grad(spikes.square().sum(), image)
    (grad_copied,) = torch.autograd.grad(expected.square().sum(), copied)
    torch.testing.assert_close(grad, grad_copied.sum(0))


@pytest.mark.parametrize("shape", [(1, 2, 3), (4,), (3, 0, 5), (2, 1, 1), (3, 5, 7, 3)])
def test_odd_shapes(shape: tuple[int, ...]) -> None:
    x = (3 * torch.randn(shape)).requires_grad_()
    spikes, v_last = lif(x)
    assert spikes.shape == shape
    assert v_last.shape == shape[1:]
    (grad,) = torch.autograd.grad(spikes.sum() + v_last.sum(), x)
    expected_spikes, expected_v = lif(x, backend="reference")
    (expected,) = torch.autograd.grad(expected_spikes.sum() + expected_v.sum(), x)
    torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize(
    "strided",
    [
        lambda x: x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3),
        lambda x: x.transpose(1, 3),
        lambda x: x[:, ::2, 1:],
        lambda x: x.flip(0).transpose(0, 1),
        lambda x: x[:1].expand_as(x).transpose(2, 4),
        lambda x: x[:, :1].expand_as(x),
    ],
    ids=["channels_last", "transposed", "sliced", "time_inside", "stride_0_time", "stride_0_batch"],
)
def test_the_layout_of_memory_does_not_matter(strided: Any) -> None:
    x = (2 * torch.randn(4, 4, 4, 4, 4)).requires_grad_()
    v_init = torch.rand_like(strided(x)[0])
    results = []
    for y in (strided(x), strided(x).contiguous()):
        spikes, v_last = lif(y, v_init=v_init.contiguous())
        weights = torch.arange(spikes.numel()).view(spikes.shape)
        results.append([spikes, v_last, *torch.autograd.grad((spikes * weights).sum() + v_last.sum(), x)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)


def test_channels_last_stays_channels_last() -> None:
    x = torch.randn(6, 3, 5, 5).to(memory_format=torch.channels_last).requires_grad_()
    spikes, _ = lif(x.unflatten(0, (2, 3)))
    folded = spikes.flatten(0, 1)
    assert folded.is_contiguous(memory_format=torch.channels_last)
    assert folded.data_ptr() == spikes.data_ptr()
    (grad,) = torch.autograd.grad(folded, x, torch.randn_like(x))
    assert grad.is_contiguous(memory_format=torch.channels_last)


def test_a_number_as_initial_membrane_has_a_gradient() -> None:
    x = torch.rand(3, 2, 4, dtype=torch.float64)
    v_init = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    grads = [torch.autograd.grad(lif(x, v_init=v_init, backend=b)[0].sum(), v_init)[0] for b in ("eager", "reference")]
    assert grads[0].shape == ()
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", ["eager", "reference"])
def test_the_membrane_of_16_bit_currents_is_float32(dtype: torch.dtype, backend: str) -> None:
    spacing = torch.finfo(dtype).eps / 2  # of the numbers just below 1
    x = torch.tensor([[1 - spacing], [spacing / 2], [spacing / 2]], dtype=dtype, requires_grad=True)
    rounded = x[0] + x[1]
    assert rounded.item() == 1  # so in 16 bit it would fire a step too early
    with torch.autocast("cpu", dtype):
        spikes, v_last = lif(x, decay=1.0, decay_input=False, backend=backend)
    assert spikes.flatten().tolist() == [0, 0, 1]
    assert spikes.dtype == dtype
    assert v_last.dtype == torch.float32
    (grad,) = torch.autograd.grad(spikes.sum(), x)
    assert grad.dtype == dtype
    assert grad.isfinite().all()


def test_float64_stays_float64() -> None:
    spikes, v_last = lif(torch.ones(2, 3, dtype=torch.float64))
    assert spikes.dtype == v_last.dtype == torch.float64


@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_can_be_differentiated_twice(reset: Any) -> None:
    x = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    v_init = torch.rand(4, dtype=torch.float64, requires_grad=True)
    seconds = []
    for backend in ("eager", "reference"):
        first = torch.autograd.grad(lif(x, v_init=v_init, reset=reset, backend=backend)[0].sum(), x, create_graph=True)
        seconds.append(torch.autograd.grad(first[0].square().sum(), (x, v_init)))
    for ours, expected in zip(*seconds, strict=True):
        assert expected.abs().sum() > 0
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reset": "zero"}, "is not one of hard, soft"),
        ({"surrogate": "step"}, "is not one of sigmoid"),
        ({"backend": "cuda"}, "is not one of " + ", ".join(backend_names())),
    ],
)
def test_unknown_names_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lif(torch.zeros(1, 1), **settings)


def test_second_derivatives_count_no_path_twice() -> None:
    seconds = []
    for backend in ("eager", "reference"):
        x = torch.linspace(0, 3, 12, dtype=torch.float64).view(3, 4).requires_grad_()
        spikes, _ = lif(x, v_init=0.3 * x[0] + x[1].sin(), backend=backend)
        (first,) = torch.autograd.grad(spikes.sum(), x, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), x)[0])
    torch.testing.assert_close(*seconds)


@pytest.mark.slow
def test_compiled_is_one_kernel_each_way() -> None:
    from torch._inductor import config, metrics

    torch.compiler.reset()
    backend_compiled.compiled_body.cache_clear()
    metrics.reset()
    with config.patch(force_disable_caches=True):
        x = (2 * torch.randn(4, 50_001)).requires_grad_()
        spikes, _ = lif(x, backend="compiled")
        assert metrics.generated_kernel_count == 1
        torch.autograd.grad(spikes, x, torch.randn_like(spikes))
    assert metrics.generated_kernel_count == 2
