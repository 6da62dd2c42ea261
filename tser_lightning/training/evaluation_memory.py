"""The batch size of an evaluation: as large as memory holds, found by a trial on a few images.

Legend: B image.
"""

import logging
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tser_lightning.data.image_data import ImageData
from tser_lightning.errors import UsageError
from tser_lightning.measure.energy import student_energy, teacher_energy
from tser_lightning.measure.firing import FiringRates
from tser_lightning.measure.operation_counter import OperationCounter
from tser_lightning.models.memory_format import lay_out
from tser_lightning.models.network import network_of
from tser_lightning.training.preserve_state import borrowed, own_random_numbers
from tser_lightning.training.recipe import Machine
from tser_lightning.training.teacher import SingleStep, Teacher
from tser_lightning.training.user_code import PASSED_ON, named

log = logging.getLogger("tser_lightning")


class PeakMemory(TorchDispatchMode):
    """The most bytes that tensors made inside the block take at a time, whatever the allocator does with them.

    with PeakMemory() as memory:
        student(images)
    memory.peak
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._held: dict[int, list[int]] = {}  # address of a storage: its bytes, and how many tensors look at it

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation of torch and count the bytes of its results for as long as they live."""
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor):
                self._hold(leaf)
        return output

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if address not in self._held:
            self._held[address] = [storage.nbytes(), 0]
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
        self._held[address][1] += 1
        weakref.finalize(tensor, self._release, address).atexit = False

    def _release(self, address: int) -> None:
        self._held[address][1] -= 1
        if self._held[address][1] == 0:
            self.now -= self._held.pop(address)[0]


def available_memory(device: torch.device) -> int:
    """Give the bytes that are free on a GPU, or in this machine within the limits of its container."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = [int(line.split()[1]) * 1024 for line in _lines("/proc/meminfo") if line.startswith("MemAvailable")]
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        numbers = [line for name in (limit, used) for line in _lines(f"/sys/fs/cgroup/{name}") if line.isdigit()]
        if len(numbers) == 2:
            free.append(max(0, int(numbers[0]) - int(numbers[1])))
    return min(free, default=4 * 2**30)


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text().splitlines()
    except OSError:  # another system, or another kind of container
        return []


def images_that_fit(call: Callable[[Tensor], object], images: Tensor, device: torch.device, processes: int = 1) -> int:
    """Compute for how many images a call takes half of the free memory.

    Args:
        call: Runs the measuring on that many images.
        images: A few, [B, C, H, W] or frames [T, B, C, H, W].
        device: Whose memory counts.
        processes: Number of processes that share the memory.
    """
    memory = PeakMemory()
    with memory:
        call(images)
    per_image = max(1, memory.peak // images.shape[-4])
    return max(1, available_memory(device) // (2 * per_image * processes))


def bound_evaluation(student: nn.Module, teacher: Teacher | None, data: ImageData, machine: Machine) -> None:
    """Measure the memory of an evaluation on a few images, and limit the batch size of `data` to what fits.

    Nothing but `data.eval_batch_size` is changed: copies are called, on the processor.

    Args:
        student: Images to logits_TBC.
        teacher: Measured beside it, if there is one.
        data: Where the images come from.
        machine: On what it will be measured.

    Raises:
        UsageError: A student or teacher that cannot be measured, said before a training rather than after it.
    """
    batch = next(iter(data.loader("train", batch_size=min(2, len(data.indices("train"))))))
    device = torch.device(
        "cuda" if machine.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available() else "cpu"
    )
    processes = machine.devices if isinstance(machine.devices, int) and device.type == "cpu" else 1
    fitting = [data.eval_batch_size]
    with own_random_numbers():
        for role, network in (("student", student), ("teacher", teacher)):
            if network is None or isinstance(network, SingleStep):
                continue
            with borrowed(network) as whole, torch.no_grad():
                if whole is not network:
                    whole.cpu()
                whole.eval()
                images = batch.images.to(next(whole.parameters(), batch.images).device)
                still = images.mean(0) if images.ndim == 5 else images
                lay_out(
                    network_of(whole) if role == "teacher" else whole,
                    still,
                    images.device,
                    machine.channels_last,
                )
                measure = _Measuring(role, whole)
                fitting.append(images_that_fit(measure, images, device, max(1, processes)))
                measure.finish()
    if min(fitting) < data.eval_batch_size:
        log.info(
            "evaluation takes %d images at a time: %d would not fit into the free memory",
            min(fitting),
            data.eval_batch_size,
        )
        data.eval_batch_size = min(fitting)


class _Measuring:
    """Everything that measures a trained network, run on a few images."""

    def __init__(self, role: str, network: nn.Module) -> None:
        self.who, self.network, self.role = named(role, network_of(network)), network, role
        self._counter = OperationCounter(network.net if isinstance(network, Teacher) else network)
        self._rates: FiringRates | None = None

    def __call__(self, images: Tensor) -> None:
        try:
            with self._counter:
                if self.role == "student":
                    self._rates = FiringRates(self.network)
                    with self._rates:
                        self.network(images)
                else:
                    self.network(images)
        except PASSED_ON:
            raise
        except Exception as error:
            raise self._unmeasured(error) from error

    def finish(self) -> None:
        """Compute the numbers, which may fail by itself."""
        try:
            counted = self._counter.compute()
            student_energy(counted) if self._rates else teacher_energy(counted)
            if self._rates:
                self._rates.compute().measures()
        except PASSED_ON:
            raise
        except Exception as error:
            raise self._unmeasured(error) from error

    def _unmeasured(self, error: Exception) -> UsageError:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        return UsageError(
            what=f"{self.who} cannot be measured: {said[:200]}",
            why="operations, firing rates and energy are part of every result; it would fail after the training",
            fix="neurons made by activation(channels), layers of torch.nn, and tensors as arguments of modules",
        )
