"""One multi-step LIF layer, and batch norm with LIF, forward and backward, [4, 32, 64, 32, 32].

A floor is the passes over the tensor that cannot be saved, at the speed of a copy (two passes) in the same run. LIF
reads x and writes spikes; backward it reads x and a gradient and writes one. Norm and LIF read x twice (statistics,
then values) and write spikes; backward they read x and a gradient twice and write one.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers import PEERS, Folded, backend_of, in_bfloat16, peer_of, precision_of
from benchmarks.rounds import DEVICE, ON_GPU, report, start, times
from tser_lightning.models import Student
from tser_lightning.models.fusing import Layers, allow_fusing
from tser_lightning.neurons import LIF

SHAPE = tuple(int(size) for size in os.environ.get("SHAPE", "4,32,64,32,32").split(","))
PASSES = {"LIF": (2, 3), "norm and LIF": (3, 5)}  # forward, backward
PEER = "spikingjelly 2.0.0"
BFLOAT16 = (f"{PEER} bf16", f"{PEER} bf16 policy")
ON_CPU = ("ours, eager", "ours, compiled", "ours, reference")
ON_CUDA = ("ours, eager", "ours, triton", *BFLOAT16, "ours, triton bf16")


def layer(name: str, with_norm: bool) -> Callable[[Tensor], Tensor]:
    """Make a variant's neurons, after a norm if wanted, over [T, B, C, H, W]."""
    steps, channels = SHAPE[0], SHAPE[2]
    peer = peer_of(name)
    if peer is None:
        neuron = LIF(backend=backend_of(name))
        if not with_norm:
            return neuron
        student = Student(Layers(nn.BatchNorm2d(channels), neuron), steps).to(DEVICE)
        allow_fusing(student, "fused" in name)
        return student
    norm = nn.BatchNorm2d(channels) if with_norm else nn.Identity()
    pair: nn.Module = nn.Sequential(norm, Folded(PEERS[peer], steps, channels)).to(DEVICE)
    pair = in_bfloat16(pair) if "policy" in name else pair
    return lambda x_TB: pair(x_TB.flatten(0, 1))


def measured(what: str, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Time variants forward, and forward and backward."""
    functions: dict[str, Callable[[], object]] = {}
    for name in names:
        dtype = torch.bfloat16 if "bf16" in name else torch.float32
        x = torch.randn(SHAPE, device=DEVICE, dtype=dtype).mul_(2)
        if what != "LIF":  # as a convolution in channels_last gives it
            x = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, SHAPE[:2])
        functions |= passes(name, layer(name, what != "LIF"), x.requires_grad_(), torch.randn_like(x).flatten(0, 1))
    source, target = torch.randn(SHAPE, device=DEVICE), torch.empty(SHAPE, device=DEVICE)
    functions["copy"] = lambda: target.copy_(source)
    found = times(functions)
    one = found.pop("copy") / 2
    rows = []
    for name in names:
        both, forward = found[name], found[f"{name}, forward"]
        floors = [passes * one * (0.5 if "bf16" in name else 1.0) for passes in PASSES[what]]
        rows.append(
            {
                "what": f"{what}: {name}",
                "ms": 1e3 * both,
                "of spikingjelly": both / found[PEER] if PEER in found else None,
                "of floor": both / sum(floors),
                "forward of floor": forward / floors[0],
                "backward of floor": (both - forward) / floors[1],
            }
        )
    return rows


def passes(name: str, run: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> dict[str, Callable[[], object]]:
    """Make the two functions that are timed."""

    def forward() -> Tensor:
        with precision_of(name):
            return run(x).view_as(grad)

    def both() -> object:
        spikes = forward()
        return torch.autograd.grad(spikes, x, grad.to(spikes.dtype))

    return {name: both, f"{name}, forward": forward}


def main() -> None:
    """Measure and report."""
    start()
    ours = ON_CUDA if ON_GPU else ON_CPU
    rows = measured("LIF", (*PEERS, *ours))
    fused = tuple(f"{name} fused" for name in ours if name.startswith("ours") and "reference" not in name)
    rows += measured("norm and LIF", (PEER, "plain loop", *(BFLOAT16 if ON_GPU else ()), *fused))
    report("lif_layer", f"One layer, forward + backward, {list(SHAPE)}", rows)


if __name__ == "__main__":
    main()
