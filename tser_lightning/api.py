"""The Python face: names from conf/ to objects, without a command line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from tser_lightning.deploy.weights import start_student
from tser_lightning.models import Student
from tser_lightning.registry import build
from tser_lightning.registry.options import configured
from tser_lightning.training import Teacher, load_weights


def build_student(
    name: str,
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    neuron: str | Mapping[str, Any] = "lif",
    norm: str | Mapping[str, Any] = "bn",
    **settings: Any,
) -> Student:
    """Build a student by its name (an architecture of conf/architecture), with fresh weights from torch's generator.

    Args:
        name: E.g. "resnet18".
        num_classes: C, outputs of the classifier.
        in_channels: Channels of the images: 1 for grey, 3 for colour, 2 for event frames.
        neuron: A name in conf/neuron, or that with settings: `{"name": "lif", "decay_input": False}`.
        norm: A name in conf/norm, likewise.
        **settings: Override the config's, e.g. `timesteps=4`, `stem="imagenet"`; `weights="sew_resnet34.pth"` starts
            from a file, in our names or in those of published code.

    Returns:
        The student, images [B, in_channels, H, W] to logits [T, B, num_classes].

    Raises:
        UsageError: An unknown name or setting, or weights that do not fit.

    Examples:
        >>> import torch
        >>> student = build_student("cnn_small", in_channels=1, neuron={"name": "lif", "decay": 0.25}, timesteps=4)
        >>> student(torch.rand(2, 1, 8, 8)).shape
        torch.Size([4, 2, 10])
    """
    config = configured(
        {
            "student": {"name": name, **settings},
            "neuron": {"name": neuron} if isinstance(neuron, str) else neuron,
            "norm": {"name": norm} if isinstance(norm, str) else norm,
        }
    )
    student = build.build_student(config, num_classes=num_classes, in_channels=in_channels)
    if (source := config["student"].get("weights")) is not None:
        start_student(student, source, {**config, "num_classes": num_classes})
    return student


def build_teacher(
    name: str, *, num_classes: int = 10, in_channels: int = 3, weights: str | Path | None, **settings: Any
) -> Teacher:
    """Build a frozen teacher by its name (an architecture of conf/architecture).

    Args:
        name: E.g. "resnet34".
        num_classes: C, outputs of the classifier.
        in_channels: Channels of the images: 1 for grey, 3 for colour, 2 for event frames.
        weights: A file of weights, as `load_weights` reads it; None for a teacher that knows nothing, for trials.
        **settings: Override the config's, e.g. `widths=[4, 8]`.

    Returns:
        The teacher, in eval mode and without gradients; images [B, in_channels, H, W] to logits [B, num_classes].

    Raises:
        UsageError: An unknown name or setting, or weights that do not fit.

    Examples:
        >>> import torch
        >>> teacher = build_teacher("resnet_small", in_channels=1, weights=None)
        >>> teacher(torch.rand(2, 1, 8, 8)).shape, any(each.requires_grad for each in teacher.parameters())
        (torch.Size([2, 10]), False)
    """
    config = configured({"teacher": {"name": name, **settings}})
    network = build.build_teacher_network(config["teacher"], num_classes=num_classes, in_channels=in_channels)
    if weights is not None:
        load_weights(network, weights)
    return Teacher(network)


def build_loss(name: str, **settings: Any) -> nn.Module:
    """Build a loss by its name in conf/loss.

    Args:
        name: E.g. "tser".
        **settings: Override the config's, e.g. `alpha=0.5`.

    Returns:
        The loss; see `tser_lightning.losses` for how it is called.

    Raises:
        UsageError: An unknown name or setting.

    Examples:
        >>> import torch
        >>> loss = build_loss("vanilla_kd", alpha=0.0)
        >>> round(float(loss(torch.zeros(4, 2, 10), torch.zeros(2, 10), torch.tensor([3, 7])).total), 4)  # ln 10
        2.3026
    """
    return build.build_loss(configured({"loss": {"name": name, **settings}}))


def build_neuron(name: str = "lif", channels: int | None = None, **settings: Any) -> nn.Module:
    """Build a neuron by its name in conf/neuron, to be used alone: the leading axis of its input is time.

    Args:
        name: E.g. "lif".
        channels: C of currents [T, B, C, ...], for neurons with parameters for each channel; None for one set of them.
        **settings: Override the config's, e.g. `decay=0.25`.

    Returns:
        The neuron, currents [T, ...] to spikes of the same shape.

    Raises:
        UsageError: An unknown name or setting.

    Examples:
        >>> import torch
        >>> neuron = build_neuron("if", reset="soft")
        >>> neuron(torch.tensor([0.75, 0.75, 0.5])).tolist()  # 0.75, 1.5 (fires), 0.5 + 0.5 (fires)
        [0.0, 1.0, 1.0]
    """
    return build.factory(configured({"neuron": {"name": name, **settings}})["neuron"])(channels)


def train(experiment: str = "digits", overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Train as `python -m tser_lightning experiment=... overrides...` does, in this process.

    A run of the same settings that is finished is not trained again; one that was interrupted goes on.

    Args:
        experiment: A name in experiments/.
        overrides: As on the command line, e.g. `["loss=tser", "seed=1"]`.

    Returns:
        The content of result.json.

    Raises:
        UsageError: What the command line would refuse.

    Examples:
        >>> from tser_lightning.errors import UsageError
        >>> try:
        ...     train("digits", overrides=["loss.tau=-1"])
        ... except UsageError as error:
        ...     print(str(error).splitlines()[0])
        tser: loss.tau=-1 is not a number above 0
    """
    from tser_lightning.config.run import compose_run
    from tser_lightning.tasks.run_task import run_task

    return run_task(compose_run([f"experiment={experiment}", *overrides]))
