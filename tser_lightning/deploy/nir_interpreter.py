"""An interpreter of NIR files in NumPy, independent of the code that writes them.

Legend: T time step, B image, M neurons of one layer.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tser_lightning.deploy.equivalence import Array, Computed


def run_nir(file: Path, images: Array, steps: int, step_seconds: float) -> Computed:
    """Run a feed-forward graph for T steps in float64.

    Args:
        file: The NIR file.
        images: Normalised images [B, C, H, W], the same at each step, or frames [T, B, C, H, W].
        steps: T, the time steps.
        step_seconds: Time of a step: tau dv/dt = v_leak - v + r x becomes v + (v_leak - v + r x) step / tau.

    Returns:
        The output at every step, and the spikes of every neuron by the name of its node.
    """
    import nir

    graph = nir.read(str(file))
    before: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        before[target].append(source)
    order = _sorted(before)
    states: dict[str, Array] = {}
    spikes: dict[str, list[Array]] = {}
    outputs = []
    for step in range(steps):
        values: dict[str, Array] = {}
        for name in order:
            node = graph.nodes[name]
            x = (images if images.ndim == 4 else images[step]).astype(np.float64)
            if before[name]:
                x = np.sum([values[each] for each in before[name]], axis=0)
            if type(node).__name__ in ("LIF", "IF"):
                values[name], states[name] = _fire(node, x, states.get(name, np.zeros_like(x)), step_seconds)
                spikes.setdefault(name, []).append(values[name].reshape(len(x), -1) > 0)
            else:
                values[name] = _stateless(node, x)
        outputs.append(values["output"])
    return Computed(np.stack(outputs), {name: np.stack(fired) for name, fired in spikes.items()})


def _sorted(before: dict[str, list[str]]) -> list[str]:
    """Sort the nodes so that each comes after its inputs."""
    order: list[str] = []
    left = dict(before)
    while left:
        ready = [name for name, sources in left.items() if all(each in order for each in sources)]
        if not ready:
            raise ValueError(f"the graph has a circle through {', '.join(left)}")
        order += ready
        left = {name: sources for name, sources in left.items() if name not in ready}
    return order


def _fire(node: Any, x: Array, v: Array, step_seconds: float) -> tuple[Array, Array]:
    """Charge, fire at the threshold and above, set to `v_reset`; spikes and membranes."""
    if type(node).__name__ == "IF":
        h = v + node.r * x
    else:
        h = v + (node.v_leak - v + node.r * x) * (step_seconds / node.tau.astype(np.float64))
    fired = h >= node.v_threshold
    return fired.astype(np.float64), np.where(fired, node.v_reset, h)


def _stateless(node: Any, x: Array) -> Array:
    kind = type(node).__name__
    if kind in ("Input", "Output"):
        return x
    if kind == "Conv2d":
        return _convolve(node, x)
    if kind == "Affine":
        return np.asarray(x @ node.weight.T.astype(np.float64) + node.bias)
    if kind == "Flatten":
        return x.reshape(len(x), -1)
    if kind in ("AvgPool2d", "SumPool2d"):
        windows = _windows(x, node.kernel_size, node.stride, node.padding, (1, 1))
        return np.asarray(windows.mean((-2, -1)) if kind == "AvgPool2d" else windows.sum((-2, -1)))
    raise ValueError(f"a node {kind} is not known here")


def _windows(x: Array, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Array:
    """All windows of a map: [B, C, H', W', kernel height, kernel width]."""
    high, wide = (int(each) for each in np.broadcast_to(padding, 2))
    x = np.pad(x, ((0, 0), (0, 0), (high, high), (wide, wide)))
    (k0, k1), (s0, s1), (d0, d1) = (tuple(int(e) for e in np.broadcast_to(v, 2)) for v in (kernel, stride, dilation))
    span = (d0 * (k0 - 1) + 1, d1 * (k1 - 1) + 1)
    return sliding_window_view(x, span, axis=(2, 3))[:, :, ::s0, ::s1, ::d0, ::d1]


def _convolve(node: Any, x: Array) -> Array:
    weight = node.weight.astype(np.float64)
    windows = _windows(x, weight.shape[2:], node.stride, node.padding, node.dilation)
    if int(node.groups) != 1:
        raise ValueError("a convolution with groups is not known here")
    maps = np.moveaxis(np.tensordot(windows, weight, axes=([1, 4, 5], [1, 2, 3])), -1, 1)
    return np.asarray(maps + node.bias[:, None, None])
