"""NIR files (Pedersen et al., Nature Communications 2024) that nir 1.0.4 and the newest read alike.

A step is 1e-4 s, as snnTorch has it: a leak of `decay` a step is tau = 1e-4 / (1 - decay). The resistance makes the
discrete charge that of the neuron; that of IF counts a step, not a second.
"""

import operator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from tser_lightning.errors import UsageError
from tser_lightning.models import TDBN, Student
from tser_lightning.neurons.clock import OverTime
from tser_lightning.neurons.neuron import LIF, Neuron

STEP_SECONDS = 1e-4
_SUMS = (operator.add, operator.iadd, torch.add)
_SAME = (nn.Identity, nn.Dropout)


class _Images(fx.Proxy):
    """The input, whose shape a network may look at."""

    shape: Any = None


class _Tracer(fx.Tracer):
    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.shape = shape

    def proxy(self, node: fx.Node) -> fx.Proxy:
        if node.op != "placeholder":
            return super().proxy(node)
        images = _Images(node, self)
        images.shape = self.shape
        return images

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, OverTime | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def write_nir(student: Student, images_BCHW: Tensor, file: Path) -> None:
    """Write a student's network as a NIR graph, whose runtime goes through time itself.

    Args:
        student: In eval mode, with LIF, IF or PLIF neurons and batch norms that can be folded.
        images_BCHW: Some images, for the shapes.
        file: What is written, e.g. `Path("student.nir")`.

    Raises:
        UsageError: It has something that NIR does not express; it says what and why.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import nir
        >>> import torch
        >>> import tser_lightning as tl
        >>> student = tl.build_student("resnet_small", in_channels=1, timesteps=4).eval()
        >>> with TemporaryDirectory() as folder:
        ...     write_nir(student, torch.rand(2, 1, 8, 8), Path(folder, "student.nir"))
        ...     graph = nir.read(Path(folder, "student.nir"))
        >>> sorted({type(node).__name__ for node in graph.nodes.values()})
        ['Affine', 'AvgPool2d', 'Conv2d', 'Flatten', 'Input', 'LIF', 'Output']
    """
    import h5py
    import nir

    nir.write(str(file), _Graph(student, images_BCHW).graph())
    with h5py.File(file, "a") as written:
        for node in written["node/nodes"].values():
            if "v_reset" in node:  # 0, which is what a reader takes where there is none; 1.0.4 does not know it
                del node["v_reset"]


def node_name(path: str) -> str:
    """The name in NIR of a module: readers make attributes of them, which have no dots."""
    return path.replace(".", "_")


class _Graph:
    """Walks a traced network and collects nodes and edges."""

    def __init__(self, student: Student, images_BCHW: Tensor) -> None:
        self.net = student.net
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.sources: dict[fx.Node, list[str]] = {}  # what is summed at the inputs of those that read a node
        try:
            traced = _Tracer(images_BCHW.shape).trace(self.net)
        except Exception as error:  # control flow that depends on data: whatever a network of a user's own does
            raise _inexpressible("this network", f"it cannot be traced ({type(error).__name__})") from error
        student.clock.steps = 1
        try:
            ShapeProp(fx.GraphModule(self.net, traced)).propagate(torch.zeros_like(images_BCHW[:1]))
        finally:
            student.clock.steps = None
        self.traced = traced

    def graph(self) -> Any:
        """Make the graph."""
        import nir

        for node in self.traced.nodes:
            if node.op == "placeholder":
                self.nodes["input"] = nir.Input({"input": np.array(_shape(node))})
                self.sources[node] = ["input"]
            elif node.op == "output":
                self._add(node, "output", nir.Output({"output": np.array(_shape(node.args[0]))}))
            elif node.op == "call_module":
                self._module(node, self.net.get_submodule(str(node.target)))
            else:
                self._function(node)
        return nir.NIRGraph(self.nodes, self.edges, type_check=False)

    def _add(self, node: fx.Node, name: str, made: Any) -> None:
        self.nodes[name] = made
        read = self.sources[node.args[0]]  # type: ignore[index]
        if len(set(read)) < len(read):
            raise _inexpressible(name, "what it reads is added to itself, and an edge counts once")
        self.edges += [(source, name) for source in read]
        self.sources[node] = [name]

    def _function(self, node: fx.Node) -> None:

        if node.op == "call_function" and node.target in _SUMS and all(isinstance(a, fx.Node) for a in node.args[:2]):
            self.sources[node] = [name for each in node.args[:2] for name in self.sources[each]]  # type: ignore[index]
        elif node.target in ("flatten", torch.flatten) and _of_images(*node.args[1:], **node.kwargs):
            self._add(node, node_name(node.name), _flatten(node))
        else:
            name = getattr(node.target, "__name__", str(node.target))
            raise _inexpressible(f"the operation {name}", "NIR has sums, convolutions, linear layers and pools")

    def _module(self, node: fx.Node, module: nn.Module) -> None:
        import nir

        name = node_name(str(node.target))
        if isinstance(module, _SAME):
            self.sources[node] = self.sources[node.args[0]]  # type: ignore[index]
        elif isinstance(module, nn.Conv2d):
            if module.padding_mode != "zeros":
                raise _inexpressible(name, f"its padding is {module.padding_mode}, and NIR pads with zeros")
            if module.groups != 1:
                raise _inexpressible(name, "it has groups, whose files nir 1.0.8 does not read")
            bias = np.zeros(module.out_channels, np.float32) if module.bias is None else _numpy(module.bias)
            form = module.stride, module.padding, module.dilation, module.groups
            self._add(node, name, nir.Conv2d(tuple(_shape(node.args[0])[1:]), _numpy(module.weight), *form, bias))
        elif isinstance(module, nn.BatchNorm2d):
            self._fold(node, name, module)
        elif isinstance(module, nn.Linear):
            bias = np.zeros(module.out_features, np.float32) if module.bias is None else _numpy(module.bias)
            self._add(node, name, nir.Affine(_numpy(module.weight), bias))
        elif isinstance(module, Neuron):
            self._add(node, name, _neuron(module, name, _shape(node)))
        elif isinstance(module, nn.AvgPool2d | nn.AdaptiveAvgPool2d):
            self._add(node, name, _pool(module, name, _shape(node.args[0]), _shape(node)))
        elif isinstance(module, nn.Flatten) and _of_images(module.start_dim, module.end_dim):
            self._add(node, name, _flatten(node))
        else:
            reason = "there is no maximum in it" if isinstance(module, nn.MaxPool2d) else "it has no node of this kind"
            raise _inexpressible(f"{node.target} ({type(module).__name__})", reason)

    def _fold(self, node: fx.Node, name: str, norm: nn.BatchNorm2d) -> None:
        """Let the convolution before a norm compute it too."""
        before = node.args[0]
        assert isinstance(before, fx.Node)
        conv: Any = self.nodes.get(node_name(str(before.target)))
        plain = type(norm) in (nn.BatchNorm2d, TDBN) and norm.running_mean is not None
        if not plain or not hasattr(conv, "groups") or len(before.users) > 1:
            raise _inexpressible(name, "only a norm straight after a convolution can be a part of it")
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale: Tensor = torch.ones_like(norm.running_mean) if norm.weight is None else norm.weight
        if isinstance(norm, TDBN):
            scale = scale * (norm.alpha * norm.v_threshold)
        scale = scale.double() / (norm.running_var.double() + norm.eps).sqrt()
        shift = (0 if norm.bias is None else norm.bias.double()) - norm.running_mean.double() * scale
        conv.weight = (conv.weight * scale.detach().numpy()[:, None, None, None]).astype(np.float32)
        conv.bias = (conv.bias * scale.detach().numpy() + shift.detach().numpy()).astype(np.float32)
        self.sources[node] = self.sources[before]


def _of_images(start_dim: Any = 0, end_dim: Any = -1) -> bool:
    """Whether these arguments of `torch.flatten` make one row of each image."""
    return (start_dim, end_dim) == (1, -1)


def _flatten(node: fx.Node) -> Any:
    import nir

    return nir.Flatten({"input": np.array(_shape(node.args[0]))}, start_dim=0, end_dim=-1)


def _neuron(neuron: Neuron, name: str, shape: list[int]) -> Any:
    import nir

    if not isinstance(neuron, LIF) or type(neuron).run is not LIF.run:
        raise _inexpressible(f"{name} ({type(neuron).__name__})", "NIR's neurons are IF and LIF with one leak")
    spec, learnt = neuron.spec, neuron.leak()
    if spec.reset != "hard":
        raise _inexpressible(f"{name} (reset={spec.reset})", "NIR's neurons are set to a value by a spike")
    if spec.v_init != 0:
        raise _inexpressible(f"{name} (v_init={spec.v_init})", "NIR's neurons start at rest")
    decay = spec.decay if learnt is None else float(learnt.detach())
    full = np.ones(shape, np.float32)
    threshold = full * np.float32(spec.v_threshold)
    if decay == 1:
        if spec.decay_input:
            raise _inexpressible(name, "with decay=1 and decay_input its input counts nothing")
        return nir.IF(r=full, v_threshold=threshold, v_reset=0 * full)
    r = full if spec.decay_input else full / np.float32(1 - decay)
    tau = full * np.float32(STEP_SECONDS / (1 - decay))
    return nir.LIF(tau=tau, r=r, v_leak=0 * full, v_threshold=threshold, v_reset=0 * full)


def _pool(module: nn.AvgPool2d | nn.AdaptiveAvgPool2d, name: str, before: list[int], after: list[int]) -> Any:
    import nir

    if isinstance(module, nn.AdaptiveAvgPool2d):
        size = [n // m for n, m in zip(before[1:], after[1:], strict=True)]
        if [n * m for n, m in zip(size, after[1:], strict=True)] != before[1:]:
            raise _inexpressible(name, f"its windows over {before[1:]} are not all of one size")
        return nir.AvgPool2d(np.array(size), np.array(size), np.array([0, 0]))
    if module.ceil_mode or not module.count_include_pad or module.divisor_override:
        raise _inexpressible(name, "it leaves its border out of the mean")
    pair = nn.modules.utils._pair
    return nir.AvgPool2d(*(np.array(pair(each)) for each in (module.kernel_size, module.stride, module.padding)))


def _numpy(parameter: Tensor) -> Any:
    return parameter.detach().float().numpy()


def _shape(node: Any) -> list[int]:
    """Give the shape of what a node computes for one image, without the batch."""
    return list(node.meta["tensor_meta"].shape[1:])


def _inexpressible(what: str, reason: str) -> UsageError:
    return UsageError(f"{what} cannot be written as NIR", reason, "format=onnx or format=pt2")
