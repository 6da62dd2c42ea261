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
        num_classes: C.
        in_channels: Of the images.
        neuron: A name in conf/neuron, or that with settings: `{"name": "lif", "decay_input": False}`.
        norm: A name in conf/norm, likewise.
        **settings: Override the config's, e.g. `timesteps=4`, `stem="imagenet"`; `weights="sew_resnet34.pth"` starts
            from a file, in our names or in those of published code.

    Raises:
        UsageError: An unknown name or setting, or weights that do not fit.
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
        num_classes: C.
        in_channels: Of the images.
        weights: A file, or None for an untrained one (tests).
        **settings: Override the config's.

    Raises:
        UsageError: An unknown name or setting, or weights that do not fit.
    """
    config = configured({"teacher": {"name": name, **settings}})
    network = build.build_teacher_network(config["teacher"], num_classes=num_classes, in_channels=in_channels)
    if weights is not None:
        load_weights(network, weights)
    return Teacher(network)


def build_loss(name: str, **settings: Any) -> nn.Module:
    """Build a loss by its name in conf/loss, e.g. `build_loss("tser", alpha=0.5, tau=5.0, lam=0.01)`.

    Raises:
        UsageError: An unknown name or setting.
    """
    return build.build_loss(configured({"loss": {"name": name, **settings}}))


def build_neuron(name: str = "lif", channels: int | None = None, **settings: Any) -> nn.Module:
    """Build a neuron by its name in conf/neuron; alone, the leading axis of its input is time.

    Raises:
        UsageError: An unknown name or setting.
    """
    return build.factory(configured({"neuron": {"name": name, **settings}})["neuron"])(channels)


def train(experiment: str = "digits", overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Do what `python -m tser_lightning experiment=... overrides...` does.

    Args:
        experiment: A name in experiments/.
        overrides: As on the command line, e.g. `["loss=tser", "seed=1"]`.

    Returns:
        The content of result.json.

    Raises:
        UsageError: What the command line would refuse.
    """
    from tser_lightning.config.run import compose_run
    from tser_lightning.tasks.run_task import run_task

    return run_task(compose_run([f"experiment={experiment}", *overrides]))
