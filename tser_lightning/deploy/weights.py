"""Where a student starts from: a file of weights, ours or published, its ANN twin, or a finished run."""

import json
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tser_lightning.deploy.layouts import CheckpointLayout, State, layout_of
from tser_lightning.deploy.published import PublishedCheckpoint, published, published_file
from tser_lightning.errors import UsageError
from tser_lightning.models import Student
from tser_lightning.training.weights import load_weights, places_in, read_weights

log = logging.getLogger("tser_lightning")
Config = Mapping[str, Any]

# What changes the gradients of a neuron, or how it is computed, and no number that it gives.
GRADIENT_ALONE = ("surrogate", "surrogate_scale", "detach_reset", "backend")
_RESNETS: dict[tuple[int, ...], str] = {
    (2, 2, 2, 2): "18",
    (3, 4, 6, 3): "34",
    (3, 4, 23, 3): "101",
    (3, 8, 36, 3): "152",
}
_EXAMPLES = {"spikformer": "spikformer_4_384", "spikingformer": "spikingformer_4_384", "sdt": "sdt_2_512"}


def start_student(student: Student, source: str, card: Config, teacher: nn.Module | None = None) -> None:
    """Load the weights that a student starts from, and log what they are.

    Args:
        student: With fresh weights; is changed.
        source: A file (a state_dict in our names or in those of a `CheckpointLayout`, wrapped or not), "run:DIR",
            "published:NAME", or "teacher".
        card: The settings of `student`, `neuron` and `norm`, and `num_classes`, as in a student's card.
        teacher: The ANN whose weights are taken where `source` is "teacher".

    Raises:
        UsageError: Weights that are missing, damaged or those of another network or neuron; it names the settings that
            would fit.

    Examples:
        >>> import torch
        >>> import tser_lightning as tl
        >>> student = tl.build_student("resnet_small", in_channels=1, timesteps=2)
        >>> teacher = tl.build_teacher("resnet_small", in_channels=1, weights=None)
        >>> start_student(student, "teacher", {}, teacher.net)  # its ANN twin: the same network with ReLU
        >>> torch.equal(student.net.conv1.weight, teacher.net.conv1.weight)
        True
    """
    scheme, _, rest = source.partition(":")
    if source == "teacher":
        return _from_twin(student, teacher)
    if scheme == "run":
        return _from_run(student, Path(rest), card)
    if scheme == "published":
        _check_published(published(rest), rest, card)
        return _from_file(student, published_file(rest), card)
    _check_card(Path(source).with_suffix(".json"), source, card)
    return _from_file(student, Path(source), card)


def weights_file(source: str | None) -> Path | None:
    """Give the file that a source names, if it is a local one."""
    scheme, _, rest = str(source).partition(":")
    if source in (None, "teacher") or scheme == "published":
        return None
    return Path(rest, "student.safetensors") if scheme == "run" else Path(str(source))


def _from_twin(student: Student, teacher: nn.Module | None) -> None:
    if teacher is None:
        raise UsageError(
            what="student.weights=teacher, and there is no teacher",
            why="the student would start from the weights of its ANN twin",
            fix="teacher=NAME of the same architecture, or student.weights=null",
        )
    theirs, own = teacher.state_dict(), student.net.state_dict()
    shared = {name: value for name, value in theirs.items() if name in own and own[name].shape == value.shape}
    maps = [name for name, value in shared.items() if value.ndim == 4]
    if not maps:
        other = next((name for name in own if name in theirs and own[name].ndim == 4), None)
        raise UsageError(
            what="student.weights=teacher: no convolution of the teacher has the name and the shape of the student's"
            + (f" ({other}: {list(theirs[other].shape)} and {list(own[other].shape)})" if other else ""),
            why="a student starts from its ANN twin: the same architecture, as wide and as deep",
            fix="teacher=NAME and its settings as those of the student, or student.weights=null",
        )
    student.net.load_state_dict(shared, strict=False)
    left = [name for name in own if name not in shared and not name.endswith("num_batches_tracked")]
    log.info("the student starts from the teacher: %d of %d tensors%s", len(shared), len(own), _left_out(left))


def _left_out(names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"; left as they are: {', '.join(names[:4])}{more}" if names else ""


def _from_run(student: Student, folder: Path, card: Config) -> None:
    if not (folder / "student.safetensors").is_file():
        raise UsageError(
            what=f"student.weights=run:{folder}: there is no finished run",
            why="a finished run has a student.safetensors with its student.json",
            fix="student.weights=run:runs/NAME",
        )
    _check_card(folder / "student.json", f"run:{folder}", card)
    load_weights(student.net, folder / "student.safetensors", whose="student")
    log.info("the student starts from the student of %s", folder)


def _check_card(file: Path, source: str, card: Config) -> None:
    """Raise a `UsageError` if the card beside weights tells of another network, neuron or norm."""
    try:
        theirs = json.loads(file.read_text())
        groups = {group: dict(theirs[group]) for group in ("student", "neuron", "norm")}
    except (OSError, ValueError, TypeError, KeyError):  # none, or a card of somebody else's
        return
    passing = {"student": ("timesteps", "weights", "attention_timesteps"), "neuron": GRADIENT_ALONE, "norm": ()}
    other = [
        f"{group}.{key}={_typed(value)}"
        for group, settings in groups.items()
        for key, value in settings.items()
        if key not in passing[group] and key in card[group] and card[group][key] != value
    ]
    if other:
        raise UsageError(
            what=f"student.weights={source} are those of another student: {', '.join(other[:6])}",
            why=f"{file} says what computes with them; here another network, neuron or norm would",
            fix=" ".join(_choices(other)),
        )


def _choices(settings: Iterable[str]) -> list[str]:
    """Settings as they are typed: a class is chosen by the name of its option."""
    return [re.sub(r"^(\w+)\._target_=(?:\S*\.)?(\w+)$", r"\1=\2 (its option)", each) for each in settings]


def _from_file(student: Student, path: Path, card: Config) -> None:
    found = dict(places_in(read_weights(path)))
    laid_out = {key: layout for key, state in found.items() if (layout := layout_of(state))}
    if not laid_out:
        load_weights(student.net, path, whose="student")
        log.info("the student starts from %s, whose tensors have this network's own names", path)
        if _class(card["student"]) == "sew_resnet50" and card["student"].get("connect") == "iand":
            log.warning("SpikingJelly 2.0's sew_resnet50 computes (1 - shortcut) * branch: weights of it do not fit")
        return
    key, layout = next(iter(laid_out.items()))
    prefix = layout.prefixes(found[key])[0]
    state = {name.removeprefix(prefix): v for name, v in found[key].items() if name.startswith(prefix)}
    _check_layout(layout, state, path, card)
    own = student.net.state_dict()
    load_weights(
        student.net,
        path,
        whose="student",
        renamed=lambda place: layout.renamed(place, own) if layout.prefixes(place) else place,
    )
    log.info("the student starts from %s: the names are those of %s", path, layout.name)
    if layout.untold:
        log.warning("%s does not say %s: the setting here is taken", path, layout.untold)
    if other := _differences(layout.trained, card["neuron"]):
        log.info("it was trained with %s; that changes no answer, only a further training", ", ".join(other))


def _check_layout(layout: CheckpointLayout, state: State, path: Path, card: Config) -> None:
    """Raise a `UsageError` with the settings that fit, if these are others."""
    if leaks := [name for name in state if name.endswith("_lif.w")]:
        raise UsageError(
            what=f"{path} has learnt leaks, {leaks[0]}: it was trained with ParametricLIF neurons",
            why=f"the names of {layout.name} are mapped for neurons with a fixed leak",
            fix="weights that were trained with LIF neurons",
        )
    family, settings = _network(layout, state)
    needed = [f"student.{each}" for each in _differences({**settings, **layout.settings}, card["student"])]
    if _class(card["student"]) != family:
        needed = [f"student={_EXAMPLES.get(family, family)}", *_settings({**settings, **layout.settings})]
    if _neuron(card["neuron"]) != dict(layout.neuron):
        kind = "LIF" if layout.neuron["decay_input"] else "IF"
        needed.append(f"neuron={kind.lower()}")
        if _class(card["neuron"]) == kind:
            needed += [f"neuron.{each}" for each in _differences(layout.neuron, card["neuron"])]
    if not str(card["norm"].get("_target_")).endswith(".BatchNorm2d"):
        needed.append("norm=bn")
    head = state["fc.weight" if "fc.weight" in state else "head.weight"]
    if len(head) != card["num_classes"]:
        needed.append(f"data=NAME of its {len(head)} classes (this data has {card['num_classes']})")
    if needed:
        raise UsageError(
            what=f"{path} holds {layout.name}, which the settings here do not compute",
            why="with another network, pooling, neuron, norm or class count its weights would give other answers",
            fix=" ".join(needed),
        )


def _settings(settings: Config) -> list[str]:
    return [f"student.{key}={_typed(value)}" for key, value in settings.items()]


def _neuron(settings: Config) -> dict[str, Any]:
    """What an IF or LIF neuron computes; of another neuron its name."""
    name = _class(settings)
    if name not in ("IF", "LIF"):
        return {"neuron": name}
    fixed = {"decay": 1.0, "decay_input": False} if name == "IF" else {}
    facts = {key: fixed.get(key, settings.get(key)) for key in ("decay", "decay_input", "v_threshold", "reset")}
    return facts | ({"v_init": settings["v_init"]} if settings.get("v_init") else {})


def _class(settings: Config) -> str:
    """The name of the class or function that a group names."""
    return str(settings.get("_target_", "")).rpartition(".")[2]


def _differences(wanted: Config, given: Config) -> list[str]:
    """Settings that have another value than is wanted, as they are typed."""
    return [f"{key}={_typed(value)}" for key, value in wanted.items() if key in given and given[key] != value]


def _typed(value: Any) -> str:
    return json.dumps(value).strip('"')


def _network(layout: CheckpointLayout, state: State) -> tuple[str, dict[str, Any]]:
    """The function that makes the network of a state_dict, and its settings as far as the shapes tell them."""
    if "patch_embed" not in " ".join(state):
        return _resnet(layout, state)
    blocks = {int(name.split(".")[1]) for name in state if name.startswith("block.")}
    settings: dict[str, Any] = {"depth": len(blocks), "dim": state["head.weight"].shape[1]}
    if (heads := state.get("block.0.attn.talking_heads.weight")) is not None:
        settings["heads"] = len(heads)
    return layout.family, settings


def _resnet(layout: CheckpointLayout, state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    depths = tuple(len({name.split(".")[1] for name in state if name.startswith(f"layer{i}.")}) for i in range(1, 5))
    size = _RESNETS.get(depths, "?")
    size = "50" if size == "34" and any(".conv3." in name for name in state) else size
    family = f"{layout.family}{size}"
    if family not in ("resnet18", "resnet34", "sew_resnet18", "sew_resnet34", "sew_resnet50"):
        raise UsageError(
            what=f"these weights are those of {layout.name} with {depths} blocks, {family}",
            why="as a student there are sew_resnet18, sew_resnet34, sew_resnet50, resnet18 and resnet34",
            fix="weights of one of these",
        )
    return family, {"stem": "imagenet" if state["conv1.weight"].shape[-1] == 7 else "cifar"}


def _check_published(entry: PublishedCheckpoint, name: str, card: Config) -> None:
    needed = [f"student.{each}" for each in _differences(entry.settings, card["student"])]
    if _class(card["student"]) != entry.family:
        needed = [f"student={_EXAMPLES.get(entry.family, entry.family)}", *_settings(entry.settings)]
    if needed:
        raise UsageError(
            what=f"student.weights=published:{name} is not a checkpoint of this student",
            why=f"its authors trained another network ({entry.page})",
            fix=" ".join(needed),
        )
