"""FSDP2: a large student whose weights, gradients and optimiser state lie in parts on several devices."""

from collections.abc import Iterator

import torch
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from tser_lightning.errors import UsageError
from tser_lightning.losses.contract import needs_of
from tser_lightning.models.network import network_of
from tser_lightning.training.recipe import Machine, Recipe

NAME = "fsdp"


def is_sharded(machine: Machine) -> bool:
    """Whether a student's weights are sharded (FSDP2) during training."""
    return machine.strategy == NAME


def strategy_for(machine: Machine) -> str | Strategy:
    """Give Lightning's strategy; for `fsdp` that of FSDP2, whose tensors keep their shapes (and thus their decay)."""
    return ModelParallelStrategy(save_distributed_checkpoint=False) if is_sharded(machine) else machine.strategy


def check_sharding(student: nn.Module, loss: nn.Module, recipe: Recipe) -> None:
    """Refuse what does not go with sharded weights.

    Raises:
        UsageError: A parameter that is a single number, a loss that learns or asks for the heads, a moving average,
            16-mixed.
    """
    numbers = [name for name, parameter in student.named_parameters() if parameter.ndim == 0]
    reasons = {
        f"the student's {', '.join(numbers[:2])}": "a single number cannot lie in parts" if numbers else "",
        "this loss": "what it trains itself is not divided" if any(True for _ in loss.parameters()) else "",
        "a loss that asks for the heads": "the classifier's weights lie in parts" if needs_of(loss).heads else "",
        f"ema={recipe.ema}": "" if recipe.ema is None else "the average would be of the parts",
        "precision=16-mixed": "its loss scale is not shared" if recipe.precision == "16-mixed" else "",
    }
    for what, why in reasons.items():
        if why:
            raise UsageError(f"strategy=fsdp does not go with {what}", why, "strategy=ddp")


def shard(student: nn.Module, mesh: DeviceMesh) -> None:
    """Shard a student over the devices of each machine; each block is gathered as it is needed.

    Args:
        student: Changed in place; its state_dict keeps its names.
        mesh: Of Lightning: machines times the processes of one.
    """
    student.to(memory_format=torch.contiguous_format)  # FSDP2 knows no other
    for block in _blocks(network_of(student)):
        fully_shard(block, mesh=mesh)
    fully_shard(student, mesh=mesh)


def _blocks(net: nn.Module) -> Iterator[nn.Module]:
    """Find the blocks to shard one by one: modules with submodules that stand in a sequence of such."""
    for row in net.children():
        if isinstance(row, nn.Sequential | nn.ModuleList):
            yield from (
                block for block in row if any(True for _ in block.children()) and any(True for _ in block.parameters())
            )


def share_buffers(network: nn.Module) -> None:
    """Copy the buffers of the first process, which are those that are saved, to all others."""
    for buffer in network.buffers():
        torch.distributed.broadcast(buffer, 0)
