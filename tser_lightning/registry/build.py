"""From a resolved config (plain dicts) to the objects it names: the one place where configs make objects."""

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn
from torch.nn.parameter import UninitializedParameter

from tser_lightning.errors import UsageError
from tser_lightning.models import Student, relu
from tser_lightning.registry.trust import TRICKS, check_trusted, trusted, untrusted
from tser_lightning.training.user_code import PASSED_ON, failed

Config = Mapping[str, Any]


def instantiate(node: Config) -> Any:
    """Make the object that a config node names in `_target_`, from plain values; nodes inside are made first.

    Nothing is resolved here: text stays text, whatever it looks like.

    Raises:
        UsageError: A target that cannot be found or may not be made, or settings that it refuses.
    """
    target = found(node.get("_target_"))
    settings = {str(key): _made(value) for key, value in settings_in(node).items()}
    try:
        return target(**settings)
    except Exception as error:
        raise _refused(node, error) from error


def _made(value: Any) -> Any:
    if isinstance(value, Mapping):
        inner = {key: _made(each) for key, each in value.items() if key != "_target_"}
        return instantiate(value) if "_target_" in value else inner
    return [_made(each) for each in value] if isinstance(value, list | tuple) else value


def _refused(node: Config, cause: Exception) -> Exception:
    """Say why an object could not be made; what breaks in our own classes is left as it is."""
    if isinstance(cause, PASSED_ON):
        return cause
    if not isinstance(cause, TypeError | ValueError):
        return _broken(node["_target_"], cause)
    target = node["_target_"]
    what = f"{target} cannot be made: {' '.join(str(cause).split())[:300]}"
    if inspect.isfunction(made := found(target)) and _lacks_arguments(made, settings_in(node)):
        return UsageError(
            what,
            "a function named in _target_ is called once, with the settings beside it, and returns the object",
            f"a class, or a function without arguments that returns {made.__name__}",
        )
    return UsageError(
        what,
        why="it refused its settings",
        fix="other values for these settings, or another _target_",
    )


def _broken(target: str, cause: Exception) -> Exception:
    if target.startswith("tser_lightning."):
        return cause
    return failed(
        cause,
        target,
        "while it is made",
        "parts are made on the processor, once, and moved to their device by the training",
        "that line mended: no .cuda() or .to(device) in __init__, files by paths that hold from this folder",
    )


def _lacks_arguments(function: Callable[..., Any], settings: Config) -> bool:
    needed = [each for each in inspect.signature(function).parameters.values() if each.default is each.empty]
    return any(
        each.name not in settings for each in needed if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    )


def found(target: Any) -> Callable[..., Any]:
    """Find the class or function that a `_target_` names.

    Raises:
        UsageError: It names none, cannot be imported, or may not be made.
    """
    if target is None:
        raise UsageError(
            what="a part of the config names no class in _target_",
            why="its file, or the option that was chosen for it, says settings alone",
            fix="_target_: my_module.MyClass in that file",
        )
    if not isinstance(target, str) or not trusted(target):
        raise untrusted(str(target))
    module, _, name = target.rpartition(".")
    try:
        holder = importlib.import_module(module)
        made: Callable[..., Any] = getattr(holder, name)
    except (ImportError, ValueError, AttributeError) as error:
        known = (
            {entry.lower(): entry for entry in dir(holder) if not entry.startswith("_")}
            if isinstance(error, AttributeError)
            else {}
        )
        close = [known[found] for found in difflib.get_close_matches(name.lower(), known, n=1)]
        raise UsageError(
            what=f"{target} cannot be imported: {error}",
            why="_target_ is a module path that Python finds from this folder",
            fix=f"_target_={module}.{close[0]}" if close else "the folder of your module on PYTHONPATH, or run there",
        ) from error
    if not callable(made):
        raise UsageError(
            what=f"{target} is of type {type(made).__name__}, neither a class nor a function",
            why="what _target_ names is called with the settings beside it, and gives the object",
            fix=f"a class or a function in {module}",
        )
    check_trusted(target, made)
    return made


def settings_in(node: Config, *without: str) -> dict[str, Any]:
    """Give the settings that an object is made of: those beside `_target_`, but for some.

    Raises:
        UsageError: Words that are Hydra's and do nothing here, e.g. `_partial_`.
    """
    if tricks := node.keys() & set(TRICKS):
        raise UsageError(
            what=f"{node['_target_']} is given {', '.join(sorted(tricks))}",
            why="an object is made of the settings beside _target_ by their names, nothing else",
            fix="the settings by their names",
        )
    return {key: value for key, value in node.items() if key not in ("_target_", *without)}


def factory(node: Config) -> Callable[..., nn.Module]:
    """Make a function from channels to a module of a config node (neuron or norm)."""
    return partial(found(node["_target_"]), **settings_in(node))


def build_network(
    node: Config, *, num_classes: int, in_channels: int, activation: Callable[..., nn.Module], norm: Config, **drop: Any
) -> nn.Module:
    """Make the network of a student or teacher config.

    Raises:
        UsageError: Settings that the architecture refuses.
    """
    target = found(node["_target_"])
    given = {"num_classes": num_classes, "in_channels": in_channels, "activation": activation, "norm": factory(norm)}
    try:
        network: nn.Module = target(**given, **settings_in(node, "timesteps", "weights", "seed", "training"))
    except Exception as error:
        if refused := [name for name in given if f"unexpected keyword argument '{name}'" in str(error)]:
            raise UsageError(
                f"{node['_target_']} cannot be made: it takes no {refused[0]}",
                "a network is made for the images, the neuron and the norm of the run, which it is given by name",
                f"def {_head(target)}{', '.join(given)}), or **settings at the end for those that it does not use",
            ) from error
        raise _refused(node, error) from error
    named = network.named_parameters() if isinstance(network, nn.Module) else ()  # `Student` refuses another thing
    if lazy := [name for name, each in named if isinstance(each, UninitializedParameter)]:
        raise UsageError(
            f"{node['_target_']} has parameters without a size: {', '.join(lazy[:4])}",
            "weights are initialised, counted and loaded before the network is called for the first time",
            "layers with their sizes in place of Lazy ones, or a call on zeros of the right shape in __init__",
        )
    return network


def _head(target: Callable[..., Any]) -> str:
    return "__init__(self, " if inspect.isclass(target) else f"{target.__name__}("


def build_student(config: Config, *, num_classes: int, in_channels: int) -> Student:
    """Make the student of a config's groups `student`, `neuron` and `norm`, with fresh weights."""
    network = build_network(
        config["student"],
        num_classes=num_classes,
        in_channels=in_channels,
        activation=factory(config["neuron"]),
        norm=config["norm"],
    )
    return Student(network, config["student"]["timesteps"])


BATCH_NORM = {"_target_": "torch.nn.BatchNorm2d"}


def build_teacher_network(teacher: Config, *, num_classes: int, in_channels: int) -> nn.Module:
    """Make the ANN of a teacher config: the same architectures with ReLU and plain BatchNorm."""
    return build_network(teacher, num_classes=num_classes, in_channels=in_channels, activation=relu, norm=BATCH_NORM)


def build_data(config: Config) -> Any:
    """Make the data set of a config; without a validation split where nothing is selected on it."""
    node = dict(config["data"])
    if config["selection"] != "val":
        node["validation"] = 0.0
    return instantiate(node)


def build_loss(config: Config) -> nn.Module:
    """Make the loss of a config."""
    loss: nn.Module = instantiate(config["loss"])
    return loss
