"""Norms of two processes, each with half of a batch, against the same norm that sees the whole of it."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tser_lightning.models import BNTT, TAB, TDBN, TEBN, Student, resnet_small
from tser_lightning.models.shared_statistics import shared_statistics
from tser_lightning.neurons import LIF, MPBN

Net = Callable[[], nn.Module]


class AgainInBackward(nn.Module):
    """A norm that is computed for a second time in the backward pass, without counting the batch again."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = checkpoint(self.norm, x, use_reentrant=False)
        return y


def spiking(neuron: Any, norm: Any) -> nn.Module:
    return Student(resnet_small(5, 3, neuron, norm, widths=(4, 8)), 2)


NETS: dict[str, tuple[Net, tuple[int, ...]]] = {
    "1d": (partial(nn.BatchNorm1d, 3), (6, 3)),
    "1d with length": (partial(nn.BatchNorm1d, 3), (6, 3, 4)),
    "2d": (partial(nn.BatchNorm2d, 3), (6, 3, 4, 4)),
    "3d": (partial(nn.BatchNorm3d, 3, affine=False), (6, 3, 2, 4, 4)),
    "cumulative": (partial(nn.BatchNorm2d, 3, momentum=None), (6, 3, 4, 4)),
    "again": (AgainInBackward, (6, 3, 4, 4)),
    "tdbn": (partial(spiking, LIF, TDBN), (6, 3, 8, 8)),
    "tebn": (partial(spiking, LIF, partial(TEBN, timesteps=2)), (6, 3, 8, 8)),
    "bntt": (partial(spiking, LIF, partial(BNTT, timesteps=2)), (6, 3, 8, 8)),
    "tab": (partial(spiking, LIF, partial(TAB, timesteps=2)), (6, 3, 8, 8)),
    "mpbn": (partial(spiking, MPBN, nn.BatchNorm2d), (6, 3, 8, 8)),
}


def images(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 + 1000


def results(net: nn.Module, x: Tensor, whole: int) -> dict[str, Tensor]:
    """Gradients of a sum over images and the buffers, after two batches."""
    for _ in range(2):
        x = x.detach().requires_grad_()
        out = net(x)
        out_NF = out.transpose(0, 1).flatten(1) if isinstance(net, Student) else out.flatten(1)
        (out_NF * x.detach().flatten(1)[:, :1].sin() + out_NF.square().cumsum(1) / 7).sum().div(whole).backward()
    found = {name: parameter.grad for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert x.grad is not None
    return {**found, **dict(net.named_buffers()), "x": x.grad}


def of_process(rank: int, nets: dict[str, nn.Module], folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {}
    for name, net in nets.items():
        x = images(NETS[name][1])
        with shared_statistics():
            found[name] = results(net, x[4 * rank : 4 + 2 * rank], len(x))  # 4 images here, 2 there
        net.eval()
        with shared_statistics():
            found[name]["eval"] = net(x).detach()
    torch.save(found, folder / str(rank))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("processes")
    torch.manual_seed(0)
    nets = {name: make().double() for name, (make, _) in NETS.items()}
    alone = {}
    for name, net in copy.deepcopy(nets).items():
        alone[name] = results(net, images(NETS[name][1]), 6)
        alone[name]["eval"] = net.eval()(images(NETS[name][1])).detach()
    mp.start_processes(of_process, (nets, folder), nprocs=2, start_method="fork")  # type: ignore[attr-defined]
    return alone, [torch.load(folder / str(rank)) for rank in range(2)]


@pytest.mark.parametrize("name", NETS)
def test_two_processes_normalise_as_one(name: str, one_and_two: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    alone, (first, second) = one_and_two[0][name], [found[name] for found in one_and_two[1]]
    buffers = dict(NETS[name][0]().named_buffers())
    for key, expected in alone.items():
        if key == "eval":
            found = first[key]
        elif key in buffers:
            found = first[key]
            assert torch.equal(found, second[key])
        elif key == "x":
            found = torch.cat([first[key], second[key]])
        else:
            found = first[key] + second[key]
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
