"""The same neuron as each library has it: decay 1/2, hard reset to 0, threshold 1, sigmoid surrogate of slope 4.

norse's box neuron scales its input and has no sigmoid (SuperSpike here), snnTorch resets a step late: their spikes
differ, their work is the same.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from benchmarks.rounds import DEVICE
from tser_lightning.kernels.backends import backend_names
from tser_lightning.models import Student
from tser_lightning.models.fusing import allow_fusing
from tser_lightning.models.memory_format import lay_out
from tser_lightning.models.resnet import BasicBlock, resnet18
from tser_lightning.neurons import LIF
from tser_lightning.training.speed import CUDA_GRAPHS, compiled

SLOPE = 4.0


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        p = torch.sigmoid(SLOPE * ctx.saved_tensors[0])
        return grads[0] * SLOPE * p * (1 - p)


class PlainLoop(nn.Module):
    """What a paper's repository has: a loop over x[t], left to autograd."""

    def forward(self, x_TB: Tensor) -> Tensor:
        """Spikes of all steps."""
        v, spikes = torch.zeros_like(x_TB[0]), []
        for t in range(len(x_TB)):
            h = 0.5 * v + 0.5 * x_TB[t]
            s = cast(Tensor, _Step.apply(h - 1.0))
            v = h * (1 - s)
            spikes.append(s)
        return torch.stack(spikes)


class SpikingJelly(nn.Module):
    """SpikingJelly's multi-step LIFNode."""

    def __init__(self) -> None:
        super().__init__()
        from spikingjelly.activation_based import functional, neuron, surrogate

        self.node = neuron.LIFNode(
            tau=2.0, v_reset=0.0, surrogate_function=surrogate.Sigmoid(alpha=SLOPE), step_mode="m"
        )
        self.reset = functional.reset_net

    def forward(self, x_TB: Tensor) -> Tensor:
        """Spikes of all steps."""
        self.reset(self.node)
        return cast(Tensor, self.node(x_TB))


class SnnTorch(nn.Module):
    """snnTorch's Leaky, step by step."""

    def __init__(self) -> None:
        super().__init__()
        import snntorch
        from snntorch import surrogate

        self.cell = snntorch.Leaky(beta=0.5, spike_grad=surrogate.sigmoid(slope=SLOPE), reset_mechanism="zero")

    def forward(self, x_TB: Tensor) -> Tensor:
        """Spikes of all steps."""
        membrane, spikes = self.cell.init_leaky(), []
        for x in x_TB.unbind(0):
            spike, membrane = self.cell(x, membrane)
            spikes.append(spike)
        return torch.stack(spikes)


class Norse(nn.Module):
    """norse's box neuron, step by step."""

    def __init__(self) -> None:
        super().__init__()
        import norse.torch as norse

        parameters = norse.LIFBoxParameters(
            tau_mem_inv=torch.tensor(500.0), v_th=torch.tensor(1.0), method="super", alpha=torch.tensor(SLOPE)
        )
        self.cell = norse.LIFBoxCell(parameters, dt=0.001)

    def forward(self, x_TB: Tensor) -> Tensor:
        """Spikes of all steps."""
        state, spikes = None, []
        for x in x_TB.unbind(0):
            spike, state = self.cell(x, state)
            spikes.append(spike)
        return torch.stack(spikes)


PEERS: dict[str, Callable[[], nn.Module]] = {
    "spikingjelly 2.0.0": SpikingJelly,
    "snntorch 1.0.0": SnnTorch,
    "norse 1.1": Norse,
    "plain loop": PlainLoop,
}


class Folded(nn.Module):
    """A peer's neuron in a network over the folded batch [T*B, ...]."""

    def __init__(self, make: Callable[[], nn.Module], steps: int, channels: int) -> None:
        super().__init__()
        self.neuron, self.steps = make(), steps

    def forward(self, x: Tensor) -> Tensor:
        """Spikes [T*B, ...]."""
        return cast(Tensor, self.neuron(x.unflatten(0, (self.steps, -1)))).flatten(0, 1)


class PeerStudent(nn.Module):
    """The same ResNet-18 with a peer's neurons; every image goes T times through all of it."""

    def __init__(self, peer: str, steps: int, classes: int) -> None:
        super().__init__()
        self.net, self.steps = resnet18(classes, 3, partial(Folded, PEERS[peer], steps)), steps

    def forward(self, images: Tensor) -> Tensor:
        """Logits of all steps."""
        frames = images.expand(self.steps, *images.shape).flatten(0, 1)
        return cast(Tensor, self.net(frames).unflatten(0, (self.steps, -1)))


def peer_of(name: str) -> str | None:
    """The peer that a variant begins with ("spikingjelly 2.0.0 bf16"); None for ours."""
    return next((peer for peer in PEERS if name.startswith(peer)), None)


def backend_of(name: str) -> str:
    """The backend that a variant of ours names ("ours, triton fused"), else auto."""
    return next((backend for backend in backend_names() if backend in name), "auto")


def precision_of(name: str) -> AbstractContextManager[Any]:
    """Mixed precision for a variant with the word bf16."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled="bf16" in name)


def in_bfloat16(network: nn.Module) -> nn.Module:
    """Give SpikingJelly's neurons their own 16-bit storage, without which they leave their kernels under autocast."""
    from spikingjelly.activation_based.precision import PrecisionConfig, prepare_model_for_precision

    config = PrecisionConfig(mode="bf16", neuron_storage="bf16")
    return cast(nn.Module, prepare_model_for_precision(network, DEVICE, config).model)


def with_less_memory(network: nn.Module) -> nn.Module:
    """Let SpikingJelly's memopt compute residual blocks again in the backward pass, from spikes that it keeps as bits.

    Its first level; the further ones search on a GPU.
    """
    from spikingjelly.activation_based.memopt import optimize_memory

    few = torch.randn(2, 3, 32, 32, device=DEVICE)
    return cast(nn.Module, optimize_memory(network, BasicBlock, lambda net: net(few), level=1))


def student(name: str, steps: int, classes: int = 100) -> nn.Module:
    """Make a student by its name.

    A peer, "bf16" for mixed precision, "policy" for SpikingJelly's own 16-bit storage, "memopt" for its way to less
    memory; or ours, with the words that say how: a backend, "fused", "nhwc", "low", "lowest", "bf16", "whole"
    (machine.compile=true), "graphs" (reduce-overhead).
    """
    torch.manual_seed(0)
    peer = peer_of(name)
    if peer is not None:
        made: nn.Module = PeerStudent(peer, steps, classes).to(DEVICE)
        made = with_less_memory(made) if "memopt" in name else made
        return in_bfloat16(made) if "policy" in name else made
    ours = Student(resnet18(classes, 3, partial(LIF, backend=backend_of(name))), steps).to(DEVICE)
    allow_fusing(ours, "fused" in name)
    ours.saves_memory, ours.recomputes = "low" in name, "lowest" in name
    if "nhwc" in name:
        lay_out(ours, torch.zeros(2, 3, 32, 32, device=DEVICE), DEVICE)
    return ours


def caller(name: str, model: nn.Module) -> Callable[[Tensor], Tensor]:
    """How a variant's student is called in a step."""
    call = compiled(model, CUDA_GRAPHS if "graphs" in name else "whole" in name)

    def run(images: Tensor) -> Tensor:
        if "graphs" in name:
            torch.compiler.cudagraph_mark_step_begin()
        with precision_of(name):
            return cast(Tensor, call(images))

    return run
