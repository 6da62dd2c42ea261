"""The settings of the training: trainer, optimiser, schedule, machine."""

from typing import Annotated, Literal

from pydantic import Field

from tser_lightning.schema.setting import (
    Count,
    Keep,
    NotNegative,
    OpenUnitInterval,
    Positive,
    Seed,
    Settings,
    Text,
    UnitInterval,
    UnitIntervalOpenAbove,
    Whole,
    about,
)

UpToAThousand = Annotated[int, Field(ge=1, le=1024)]


class TrainerSettings(Settings, group="trainer"):
    """How the student is trained, but for optimiser and schedule (`tser_lightning.training.Recipe`)."""

    epochs: Count = about("passes over the training split")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = about("of the training; membranes stay float32")
    accumulate: Count = about("batches per optimiser step; the last step of an epoch takes those that are left")
    clip: Positive | None = about("largest norm of the gradient; null: no clipping")
    ema: OpenUnitInterval | None = about(
        "decay of the weights' moving average, which is then what is measured, e.g. 0.999; null: none"
    )
    validate_every: Count = about("epochs between two validations; the last epoch is always validated")
    through_time: bool = about(
        "gradients through the membranes of all steps; false: step by step (online, SLTT), memory does not grow with T",
        default=True,
    )


class TeacherTrainingSettings(Settings, group="teacher.training"):
    """How a teacher is trained; its optimiser and schedule are chosen as the student's are."""

    epochs: Count = about("passes over the training split")
    start: Text = about("where training begins but for the classifier: timm:NAME, torchvision:NAME, random")


class SGDSettings(Settings, targets=("torch.optim.SGD",)):
    """Weight decay acts on weights alone: norms, biases and neuron parameters have none."""

    lr: Positive = about("largest learning rate")
    momentum: UnitIntervalOpenAbove = about("share of the last step that is kept")
    weight_decay: NotNegative = about("of weights alone")


class AdamWSettings(Settings, targets=("torch.optim.AdamW",)):
    """Weight decay acts on weights alone: norms, biases and neuron parameters have none."""

    lr: Positive = about("largest learning rate")
    weight_decay: NotNegative = about("of weights alone")
    betas: Annotated[list[UnitIntervalOpenAbove], Field(min_length=2, max_length=2)] = about(
        "of the two moving averages"
    )


class ConstantSettings(Settings, targets=("tser_lightning.training.schedule.Constant",)):
    """One rate after the warm-up."""

    warmup_epochs: NotNegative = about("epochs in which the rate rises from 0 in a line")


class CosineSettings(ConstantSettings, targets=("tser_lightning.training.schedule.Cosine",)):
    """Half a cosine after the warm-up."""

    final_lr: NotNegative = about("at the last step")
    cooldown_epochs: NotNegative = about("epochs at the end, of those of the training, that have final_lr", default=0)


class OneCycleSettings(Settings, targets=("tser_lightning.training.schedule.OneCycle",)):
    """Half a cosine up, half a cosine down."""

    rising: UnitInterval = about("share of the training in which the rate rises")


class MedianSettings(Settings, targets=("tser_lightning.training.pruning.Median",)):
    """Which jobs of a sweep end early, by their accuracy on validation images."""

    min_epochs: Count = about("epochs before the first comparison")


class ASHASettings(MedianSettings, targets=("tser_lightning.training.pruning.ASHA",)):
    """Which jobs of a sweep end early, by their accuracy on validation images."""

    eta: Annotated[int, Field(ge=2, le=100)] = about(
        "the best 1 / eta goes on; the epochs between two comparisons grow by it"
    )


class MachineSettings(Settings, group="machine"):
    """What may differ from machine to machine without another result (`tser_lightning.training.Machine`)."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = about("Lightning's name")
    devices: Annotated[int, Field(ge=1)] | list[Whole] | Literal["auto"] = about("how many, a list of which, or auto")
    num_nodes: UpToAThousand = about("machines that train together; torchrun or Slurm starts the processes of each")
    strategy: Text = about("Lightning's names: ddp, ddp_fork, ...; fsdp is FSDP2")
    threads: UpToAThousand | Literal["auto"] = about("of torch on a CPU; auto: as many as cores")
    slots: UpToAThousand | Literal["auto"] = about(
        "jobs of a sweep at once; auto: one per GPU, or one per `threads` cores (1 if that is auto)"
    )
    workers: Annotated[int, Field(ge=0, le=1024)] | Literal["auto"] = about(
        "processes that load data; auto: 0 for a set in memory, which lies on the GPU if it fits there (a number keeps "
        "it in the machine's memory), else as many as cores"
    )
    sync_batchnorm: bool = about(
        "several processes share the statistics of batch normalisation; false gives another result"
    )
    checkpoint_every: Count | None = about(
        "optimiser steps between two checkpoints within an epoch; null: one after each epoch alone"
    )
    compile: bool | Literal["reduce-overhead"] = about(
        "torch.compile: false, true, or reduce-overhead (CUDA graphs); minutes of warm-up on a CPU"
    )
    fused: bool = about("a neuron and the batch norm before it as one operation")
    fused_optimizer: bool = about("a step of the optimiser as one operation, where torch has that")
    channels_last: bool = about("how feature maps lie in memory")
    memory: Literal["auto", "low", "lowest"] = about(
        "low keeps spikes as bits for the backward pass (no slower), lowest computes blocks again in it besides"
    )
    teacher_cache: Whole = about("epochs whose teacher logits are kept on disk, for further runs of the same seed")
    keep: Keep = about("which checkpoints a finished run keeps beside its weights: none (weights), the last, or all")
    runs_dir: Text = about("where run directories and teachers lie")


class TeacherSettings(Settings, group="teacher"):
    """What a teacher has beside the settings of its architecture."""

    weights: Text | None = about(
        "train (now, once, kept), a file, torchvision:NAME, timm:NAME, or null (untrained: tests only)"
    )
    seed: Seed = about("of its training")
