"""The same neuron as each library has it: decay 1/2, hard reset to 0, threshold 1, sigmoid surrogate of slope 4.

norse's box neuron scales its input and has no sigmoid (SuperSpike here), snnTorch resets a step late: their spikes
differ, their work is the same.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from tser_lightning.models import Student
from tser_lightning.models.fusing import allow_fusing
from tser_lightning.models.resnet import resnet18
from tser_lightning.neurons import LIF

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


def student(name: str, steps: int, classes: int = 100) -> nn.Module:
    """Make a student by name: a peer, or ours with the words that say how ("eager fused low")."""
    torch.manual_seed(0)
    if name in PEERS:
        return PeerStudent(name, steps, classes)
    ours = Student(resnet18(classes, 3, partial(LIF, backend="compiled" if "compiled" in name else "eager")), steps)
    allow_fusing(ours, "fused" in name)
    ours.saves_memory = "low" in name
    return ours.to(memory_format=torch.channels_last) if "nhwc" in name else ours
