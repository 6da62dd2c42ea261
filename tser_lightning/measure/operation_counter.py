"""Count the operations of a student or a teacher while it classifies."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from tser_lightning.measure.cost import Cost, Sums, cost_of, cost_of_product, kind_of
from tser_lightning.measure.firing import named_modules
from tser_lightning.measure.operations import Operations, layer_operations
from tser_lightning.measure.random_spikes import random_spikes
from tser_lightning.neurons.clock import Clock, OverTime
from tser_lightning.neurons.neuron import Neuron

MATMULS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm, torch.mm, Tensor.mm)
# Also multiply and are not counted by these rules outside a counted layer: named in the result, not passed over.
UNKNOWN = (
    torch.einsum,
    F.linear,
    F.conv1d,
    F.conv2d,
    F.conv3d,
    F.conv_transpose2d,
    F.batch_norm,
    F.multi_head_attention_forward,
)


class OperationCounter:
    """Counts what a network computes while it classifies; see `energy.ASSUMPTIONS` for the two conventions.

    Counts convolutions, linear layers, norms and poolings by forward hooks, and matrix products inside any module
    (attentions) where they are written `q @ k`, `torch.matmul`, `torch.bmm` or `F.scaled_dot_product_attention`. So an
    attention of one's own is counted if it multiplies in one of these ways; anything else that multiplies, such as
    `torch.einsum` or `F.conv2d` outside a layer, is named in `Operations.uncounted`. Counts stay on the device.

    Whether an input is binary is decided over all the data, so that batch sizes change nothing, and by one more call
    with random spikes in place of the neurons' (`random_spikes`), so that a silent neuron hides nothing.

    Args:
        model: A student (called whole, not streamed) or an ANN that takes [B, ...].

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> ann = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10))
        >>> with OperationCounter(ann) as counter, torch.no_grad():
        ...     _ = ann(torch.rand(2, 3, 4, 4))
        >>> counted = counter.compute()
        >>> {path: layer.paper.mac for path, layer in counted.layers.items()}  # 16 8 3 3 3, 10 128 + 10
        {'0': 3456.0, '3': 1290.0}
    """

    def __init__(self, model: nn.Module) -> None:
        self._model, self._modules = model, named_modules(model)
        self._counts = any(isinstance(each, Neuron) and each.max_spikes > 1 for each in self._modules.values())
        self._weighted = any(isinstance(each, Neuron) and each.weighted for each in self._modules.values())
        self._kinds: dict[str, str] = {}
        self._costs: dict[str, Cost] = {}
        self._images = 0
        self._example: Tensor | None = None
        self._uncounted: dict[str, None] = {}
        self._open: list[str] = []
        self._products: dict[str, int] = {}
        self._in_time = False
        self._handles: list[RemovableHandle] = []
        self._mode = _Products(self)

    def __enter__(self) -> Self:
        self._handles.append(self._model.register_forward_pre_hook(self._begin))
        for path, module in self._modules.items():
            self._handles.append(module.register_forward_pre_hook(self._enter_module(path)))
            self._handles.append(module.register_forward_hook(self._leave_module(path)))
        self._mode.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._mode.__exit__(kind, error, at)
        while self._handles:
            self._handles.pop().remove()

    def _begin(self, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        frames = args[0].ndim == 5
        self._images += args[0].shape[1 if frames else 0]
        if self._example is None:
            one = args[0][:, :1] if frames else args[0][:1]
            self._example = one.detach().repeat_interleave(8, 1 if frames else 0)
        self._open, self._products, self._in_time = [], {}, False

    def _enter_module(self, path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def enter(module: nn.Module, _: tuple[Any, ...]) -> None:
            self._open.append(path)
            self._in_time = self._in_time or isinstance(module, OverTime)

        return enter

    def _leave_module(self, path: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            kind = kind_of(module)
            if kind is not None:
                x = args[0].detach()
                if self._weighted:  # spikes that all weigh the same do what spikes of 1 do with scaled weights
                    x = x / x.abs().amax().clamp(min=torch.finfo(x.dtype).tiny)
                self._add(path, kind, cost_of(module, x, output.detach(), self._counts))
            self._open.pop()

        return leave

    def add_product(self, left: Tensor, right: Tensor) -> None:
        """Count left [..., M, K] @ right [..., K, N] in the module that is running; nothing outside the network."""
        if self._open:
            path = self._open[-1]
            self._products[path] = self._products.get(path, 0) + 1
            cost = cost_of_product(left.detach(), right.detach(), self._counts)
            self._add(f"{path}.product{self._products[path]}", "product", cost)

    def add_unknown(self, function: Callable[..., Any]) -> None:
        """Note that a function that no rule counts ran, unless it is how a counted layer does its work."""
        if self._open and kind_of(self._modules[self._open[-1]]) is None:
            self._uncounted[f"{self._open[-1]}: {function.__name__}"] = None

    def _add(self, path: str, kind: str, cost: Cost) -> None:
        self._kinds[path] = kind
        clock = getattr(self._model, "clock", None)
        if isinstance(clock, Clock) and clock.images is not None and not self._in_time:
            # Computed once for all steps; the paper's convention charges it at every step.
            cost["ops"] *= clock.steps or 1
        sums = self._costs.setdefault(path, {})
        for name, value in cost.items():
            sums[name] = sums.get(name, 0) + value

    def reduce(self) -> None:
        """Add up over all processes of a distributed run; every process must call this, once, before `compute`."""
        device = next(self._model.parameters()).device
        keys = [(path, name) for path, cost in self._costs.items() for name in cost]
        values = [self._images, *(self._costs[path][name] for path, name in keys)]
        sums = torch.stack([torch.as_tensor(value, device=device) for value in values])
        torch.distributed.all_reduce(sums)
        self._images = int(sums[0])
        for (path, name), value in zip(keys, sums[1:], strict=True):
            self._costs[path][name] = value

    def compute(self) -> Operations:
        """Compute the operations per image so far.

        Raises:
            ValueError: Nothing was classified.
        """
        if not self._images:
            raise ValueError("nothing was classified while operations were counted")
        structure = self._structure()
        layers = {
            path: layer_operations(
                self._kinds[path], _as_int(cost), structure.get(path, {}), self._images, self._counts
            )
            for path, cost in self._costs.items()
        }
        return Operations(layers, tuple(self._uncounted))

    def _structure(self) -> dict[str, Sums]:
        """Count the costs of one call with random spikes; empty for a network without neurons."""
        assert self._example is not None
        with random_spikes(self._model) as spiking:
            if not spiking:
                return {}
            again = OperationCounter(self._model)
            with again, torch.no_grad():
                self._model(self._example)
        return {path: _as_int(cost) for path, cost in again._costs.items()}


def _as_int(cost: Cost) -> Sums:
    return {name: int(value) for name, value in cost.items()}


class _Products(TorchFunctionMode):
    """Tells a counter of the matrix products that no layer of its own does."""

    def __init__(self, counter: OperationCounter) -> None:
        super().__init__()
        self._counter = counter

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        operands = [*args, *(kwargs or {}).values()]
        if func in MATMULS and min(operand.ndim for operand in operands[:2]) > 1:
            self._counter.add_product(*operands[:2])
        elif func is F.scaled_dot_product_attention:
            query, key, value = operands[:3]
            self._counter.add_product(query, key.transpose(-1, -2))
            # The attention map stays inside the kernel; after a softmax it is analog, whatever went in.
            self._counter.add_product(query.new_full((*query.shape[:-1], key.shape[-2]), 0.5), value)
        elif func in UNKNOWN or func in MATMULS:
            self._counter.add_unknown(func)
        return output
