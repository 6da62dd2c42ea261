"""How a network is trained, and on what: plain settings."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch.optim import SGD, Optimizer

from tser_lightning.training.schedule import Cosine, Schedule


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. The defaults are the CIFAR recipe of the group that wrote the TSER paper.

    Attributes:
        epochs: Passes over the training split.
        optimizer: Makes the optimiser from parameter groups, e.g. `partial(SGD, lr=0.1)`.
        schedule: Makes the learning rate schedule; see `training.schedule`.
        precision: Lightning's name: 32-true, bf16-mixed, 16-mixed. Membranes stay float32.
        accumulate: Batches per optimiser step; the last step of an epoch has those that are left.
        clip: Largest norm of the gradient; None for no clipping.
        ema: Decay of the moving average of the student's weights that is validated, selected and exported in their
            place, reached over the first steps (see `EMA`); None for none.
        validate_every: Epochs between two validations; the last epoch is validated besides.
        steps: Batches per epoch and split, for a trial; None for all of them.
        through_time: Whether gradients flow through the membranes of all steps (BPTT); False: step by step, see
            `training.online`.

    Examples:
        >>> from functools import partial
        >>> from torch.optim import AdamW
        >>> recipe = Recipe(epochs=300, optimizer=partial(AdamW, lr=5e-4, weight_decay=0.06), clip=1.0)
        >>> recipe.epochs, recipe.precision
        (300, '32-true')
    """

    epochs: int = 300
    optimizer: Callable[..., Optimizer] = field(default=partial(SGD, lr=0.1, momentum=0.9, weight_decay=5e-4))
    schedule: Schedule = field(default=Cosine())
    precision: str = "32-true"
    accumulate: int = 1
    clip: float | None = None
    ema: float | None = None
    validate_every: int = 1
    steps: int | None = None
    through_time: bool = True


@dataclass(frozen=True)
class Machine:
    """What a run may use of the machine; nothing here changes its result, but for what is said of it below.

    Attributes:
        accelerator: Lightning's name, e.g. "cpu" or "gpu"; "auto" takes a GPU if there is one.
        devices: Devices of each node: their number, a list of indices, or "auto" for all.
        num_nodes: Number of machines that train together; torchrun or Slurm starts the processes.
        strategy: Lightning's name, e.g. "ddp"; "fsdp" shards the student; "auto" leaves it to Lightning.
        workers: Processes that load data; auto: none for a set in memory, which goes to the GPU if there is one with
            room, else one per core.
        checkpoint_every: Optimiser steps between two checkpoints within an epoch; None for one after each epoch alone.
        sync_batchnorm: Whether processes that train together share the statistics of batch normalisation. False gives
            another result than one process: each sees its own share of a batch.
        compile: Whether student and teacher go through torch.compile, "reduce-overhead" with CUDA graphs.
        fused: Whether a neuron and the norm before it may be computed as one operation.
        fused_optimizer: Whether the optimiser may take its step in one kernel.
        channels_last: Whether maps lie in memory channels last.
        memory: "low" keeps spikes for the backward pass as bits, "lowest" computes blocks again in it besides.
        teacher_cache: Epochs whose teacher logits are kept on disk for runs of the same seed; 0 for none.
        runs_dir: Folder of the runs, where kept teacher logits lie under `teachers/logits`.

    Examples:
        >>> one_gpu = Machine(accelerator="gpu", devices=1, memory="low")
        >>> one_gpu.workers, one_gpu.checkpoint_every
        ('auto', 500)
    """

    accelerator: str = "auto"
    devices: Any = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    workers: int | str = "auto"
    checkpoint_every: int | None = 500
    sync_batchnorm: bool = True
    compile: bool | str = False
    fused: bool = True
    fused_optimizer: bool = True
    channels_last: bool = True
    memory: str = "auto"
    teacher_cache: int = 0
    runs_dir: str = "runs"
