"""One multi-step LIF layer, forward and backward, [4, 32, 64, 32, 32] float32.

The floor is five passes over the tensor (forward reads x and writes s; backward reads x and the gradient, writes one),
at the speed of a copy in the same run.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.peers import PEERS
from benchmarks.rounds import report, start, times
from tser_lightning.neurons import LIF

SHAPE = (4, 32, 64, 32, 32)


def main() -> None:
    """Measure and report."""
    start()
    x = torch.randn(SHAPE).mul_(2).requires_grad_()
    grad, copied = torch.randn(SHAPE), torch.empty(SHAPE)

    def run(neuron: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(neuron(x), x, grad)

    functions: dict[str, Callable[[], object]] = {name: run(make()) for name, make in PEERS.items()}
    for backend in ("eager", "compiled", "reference"):
        functions[f"ours, {backend}"] = run(LIF(backend=backend))
    functions["copy"] = lambda: copied.copy_(x.detach())
    found = times(functions)
    peer, floor = found["spikingjelly 2.0.0"], 2.5 * found.pop("copy")
    rows = [
        {"what": name, "ms": 1e3 * t, "of spikingjelly": t / peer, "of floor": t / floor} for name, t in found.items()
    ]
    rows.append({"what": "floor (5 passes)", "ms": 1e3 * floor, "of spikingjelly": floor / peer, "of floor": 1.0})
    report("lif_layer", f"LIF layer, forward + backward, {list(SHAPE)}", rows)


if __name__ == "__main__":
    main()
