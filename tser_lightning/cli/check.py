"""Check a composed config against what the config files define: names, types, ranges."""

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tser_lightning.cli.command import TYPOGRAPHY, Setting
from tser_lightning.cli.mistakes import as_typed, nearest
from tser_lightning.cli.rules import Number, rule
from tser_lightning.mistake import Mistake

OURS = ("tser_lightning", "torch", "torchvision", "lightning")
MISSING = "???"
FIXED_CLASSES = ("digits", "fashion_mnist", "cifar10", "cifar100", "imagenet")
OTHER_NAMES = {
    "temperature": "tau",
    "lambda": "lam",
    "lamda": "lam",
    "T": "timesteps",
    "steps": "timesteps",
    "learning_rate": "lr",
    "max_epochs": "epochs",
    "num_workers": "workers",
    "gpus": "devices",
    "wd": "weight_decay",
}


@dataclass(frozen=True)
class Defaults:
    """What the config files of the chosen options define.

    Attributes:
        config: All settings, resolved.
        choices: The option of every group.
        groups: The options that each group has.
    """

    config: Mapping[str, Any]
    choices: Mapping[str, str]
    groups: Mapping[str, list[str]]

    def at(self, key: str) -> Any:
        """Give the default of a dotted name; None if there is none."""
        here: Any = self.config
        for part in key.split("."):
            here = here.get(part) if isinstance(here, Mapping) else None
        return here

    def keys(self) -> list[str]:
        """List the dotted names of all settings."""
        return [key for key, _ in leaves(self.config)]

    def place(self, key: str) -> str:
        """Name the option whose file defines a setting, e.g. "loss=tser"."""
        group = key.partition(".")[0]
        return f"{group}={self.choices[group]}" if group in self.choices else "conf/train.yaml"


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Walk a nested mapping: dotted names and values, empty mappings included."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{key}.")
        else:
            yield key, value


def is_foreign(node: Any, default: Any) -> bool:
    """Tell whether a node makes an object of the user's own class, which may have settings that no file of ours names."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        return False
    target = node["_target_"]
    known = default.get("_target_") if isinstance(default, Mapping) else None
    return isinstance(target, str) and (target != known or target.partition(".")[0] not in OURS)


def unknown_setting(setting: Setting, defaults: Defaults, config: Mapping[str, Any]) -> Mistake | None:
    """Say what is wrong with the name of a setting that the command gives.

    Args:
        setting: As given.
        defaults: What there is.
        config: The config as far as it is known, for the user's own `_target_`.
    """
    here: Any = defaults.config
    own: Any = config
    parts = setting.key.split(".")
    free = False
    for depth, part in enumerate(parts):
        if depth == 1 and parts[0] == "callbacks":
            free = True
        free = free or is_foreign(own, here)
        if isinstance(here, list) and part.isdigit() and int(part) < len(here):
            here, own = here[int(part)], None
        elif isinstance(here, Mapping) and part in here:
            here, own = here[part], own.get(part) if isinstance(own, Mapping) else None
        elif free and part:
            return None if setting.added else _needs_plus(setting, ".".join(parts[:depth]))
        else:
            return _unknown(setting, ".".join(parts[:depth]), here, defaults)
    return None


def _needs_plus(setting: Setting, parent: str) -> Mistake:
    return Mistake(
        what=f"{setting.key} is not in a config file",
        why=f"{parent} is of a class of your own; a + says that a new setting is no misprint",
        fix=f"+{setting}",
    )


def _unknown(setting: Setting, parent: str, node: Any, defaults: Defaults) -> Mistake:
    value = as_typed(setting.value)
    if parent and not isinstance(node, Mapping):
        return Mistake(
            what=f"{setting.key} is not a setting",
            why=f"{parent} is a single value ({as_typed(node)}) with no settings inside",
            fix=f"{parent}={as_typed(node)}",
        )
    names = sorted(name for name in node if not name.startswith("_"))
    return Mistake(
        what=f"{setting.key} is not a setting",
        why=f"{defaults.place(parent) if '.' not in parent and parent else parent or 'a config'} has {', '.join(names)}",
        fix=_meant(setting.key, parent, value, names, defaults),
    )


def _meant(key: str, parent: str, value: str, names: list[str], defaults: Defaults) -> str:
    last = OTHER_NAMES.get(key.rpartition(".")[2], key.rpartition(".")[2])
    every = defaults.keys()
    same = sorted((known for known in every if known.rpartition(".")[2] == last), key=len)
    if "." not in key:
        homes = [group for group, options in defaults.groups.items() if value in options]
        if key == "run":
            return f"task=evaluate run={value}"
        close = nearest(key, [name for name in names if name in defaults.groups]) or (homes[0] if homes else None)
        if close and value in defaults.groups[close]:
            return f"{close}={value}"
    inside = nearest(last, names) if parent else None
    best = f"{parent}.{inside}" if inside else next(iter(same), None) or nearest(key, [*names, *every])
    if best is None:
        return "--cfg job shows all settings, --help the groups"
    if best in defaults.groups:
        return f"{best}={nearest(value, defaults.groups[best]) or defaults.choices.get(best, 'NAME')}"
    fits = not isinstance(defaults.at(best), Mapping)
    return f"{best}={value}" if fits else f"{best}.NAME={value}"


def check_values(config: Mapping[str, Any], defaults: Defaults, given: Mapping[str, Setting]) -> list[Mistake]:
    """Compare a resolved config with its defaults; numbers of float settings become floats in place.

    Args:
        config: Plain containers; changed only where an int stands for a float.
        defaults: What the files say.
        given: What the command gives, to tell it from what an experiment sets.
    """
    return [*_walk(config, defaults.config, "", False, defaults, given)]


def _walk(
    config: Any,
    default: Mapping[str, Any],
    prefix: str,
    foreign: bool,
    defaults: Defaults,
    given: Mapping[str, Setting],
) -> Iterator[Mistake]:
    for name in list(config):
        key, value = f"{prefix}{name}", config[name]
        if name not in default:
            if not foreign and prefix != "callbacks.":
                yield _stray(key, value, default, defaults, given)
            continue
        if isinstance(default[name], Mapping):
            if isinstance(value, Mapping):
                inside = foreign or is_foreign(value, default[name])
                yield from _walk(value, default[name], f"{key}.", inside, defaults, given)
            else:
                yield _not_a_value(key, value, default[name], defaults)
            continue
        found = _wrong(key, value, default[name], foreign, defaults, given)
        if found:
            yield found
        elif isinstance(value, int) and not isinstance(value, bool) and _is_float(key, default[name], foreign):
            config[name] = float(value)


def _is_float(key: str, default: Any, foreign: bool) -> bool:
    known = rule(key, default, not foreign)
    return isinstance(known, Number) and not known.whole and (isinstance(default, float) or default is None)


def _stray(
    key: str, value: Any, default: Mapping[str, Any], defaults: Defaults, given: Mapping[str, Setting]
) -> Mistake:
    parent = key.rpartition(".")[0]
    setting = Setting(key, value)
    mistake = _unknown(setting, parent, default, defaults)
    if key.partition(".")[0] in given or any(key.startswith(f"{name}.") for name in given):
        return mistake
    experiment = defaults.choices.get("experiment", "none")
    return Mistake(f"experiment={experiment} sets {key}, which is not a setting", mistake.why, _in_file(mistake.fix))


def _in_file(fix: str) -> str:
    key, _, value = fix.partition("=")
    return f"in its file: {key}: {value}" if value else fix


def _not_a_value(key: str, value: Any, default: Mapping[str, Any], defaults: Defaults) -> Mistake:
    packaged = next((choice for choice in defaults.choices if choice.partition("@")[2] == key), key)
    names = [name for name in default if not name.startswith("_")]
    group = packaged.partition("@")[0]
    if group in defaults.groups and isinstance(value, str):
        fix = f"{packaged}={nearest(value, defaults.groups[group]) or defaults.choices.get(packaged, 'NAME')}"
    else:
        fix = f"{key}.{names[0]}={as_typed(default[names[0]])}" if names else "--cfg job"
    return Mistake(
        what=f"{key}={as_typed(value)}: {key} is not a single value",
        why=f"it is a group of settings: {', '.join(names)}",
        fix=fix,
    )


def _wrong(
    key: str, value: Any, default: Any, foreign: bool, defaults: Defaults, given: Mapping[str, Setting]
) -> Mistake | None:
    if value == MISSING or (value is None and default is None):
        return None
    known = rule(key, default, not foreign)
    if known.accepts(value):
        return _not_the_sets(key, value, default, defaults)
    shown = as_typed(value) if value != "" else "''"
    where = (
        "" if key in given or "experiment" not in defaults.choices else f"experiment={defaults.choices['experiment']}: "
    )
    why = f"{defaults.place(key)} has {key}={as_typed(default)}"
    return Mistake(f"{where}{key}={shown} is not {known.says()}", why, _better(key, value, default, known.accepts))


def _better(key: str, value: Any, default: Any, accepts: Any) -> str:
    """Give the value that was most likely meant, else the default."""
    for other in _readings(value):
        if accepts(other):
            return f"{key}={as_typed(other)}"
    return f"{key}={as_typed(default)}" if default not in (None, MISSING) else f"{key}=VALUE"


def _readings(value: Any) -> Iterator[Any]:
    if isinstance(value, str):
        text = value.translate(TYPOGRAPHY).strip("'\" ")
        yield from (
            {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}.get(text.lower()),
        )
        for kind in (int, float):
            try:
                yield kind(text)
            except (ValueError, OverflowError):
                continue
        yield text.lower()
    elif isinstance(value, float) and value.is_integer():
        yield int(value)
    elif isinstance(value, int) and value in (0, 1) and not isinstance(value, bool):
        yield bool(value)
    elif isinstance(value, list) and len(value) == 1:
        yield value[0]
    if not isinstance(value, list | dict | bool) and value is not None:
        yield [value]


def _not_the_sets(key: str, value: Any, default: Any, defaults: Defaults) -> Mistake | None:
    data = defaults.choices.get("data", "")
    if key != "data.num_classes" or data not in FIXED_CLASSES or value == default:
        return None
    return Mistake(
        what=f"data.num_classes={value}, but data={data} has {default} classes",
        why="the classifier of the student has one output per class of the set",
        fix=f"data.num_classes={default}, or the set that has {value} classes",
    )


def missing_settings(config: Mapping[str, Any], defaults: Defaults) -> list[Mistake]:
    """Name the settings that have no default and were not given."""
    return [
        Mistake(
            what=f"{key} is not set",
            why=f"{defaults.place(key) if '.' in key else 'task=' + defaults.choices.get('task', '')} needs it, and it has no default",
            fix=f"{key}={EXAMPLES.get(key, 'VALUE')}",
        )
        for key, value in leaves(config)
        if value == MISSING
    ]


EXAMPLES = {
    "run": "runs/NAME",
    "data.path": "/path/to/the/images",
    "data.num_classes": "10",
    "data.shape": "[3,32,32]",
    "data.mean": "[0.5,0.5,0.5]",
    "data.std": "[0.25,0.25,0.25]",
    "loss._target_": "my_module.MyLoss",
    "student._target_": "my_module.my_network",
}


def unimportable_targets(config: Mapping[str, Any]) -> list[Mistake]:
    """Find classes whose top package is not there; nothing is imported."""
    targets = ((key, value) for key, value in leaves(config) if key.rpartition(".")[2] == "_target_")
    return [_no_module(key, value) for key, value in targets if isinstance(value, str) and not _found(value)]


def _found(target: str) -> bool:
    top, dot, _ = target.partition(".")
    if target == MISSING or top in OURS:
        return True
    try:
        return bool(dot) and importlib.util.find_spec(top) is not None
    except (ValueError, ImportError):
        return False


def _no_module(key: str, target: str) -> Mistake:
    return Mistake(
        what=f"{key}={target} cannot be imported",
        why=f"Python finds no module {target.partition('.')[0]!r} from this folder"
        if "." in target
        else "it is no module path",
        fix=f"{key}=my_module.MyClass with my_module.py in this folder",
    )


def all_names(mistakes: Iterable[Mistake]) -> str:
    """Join what is wrong, for tests and logs."""
    return "; ".join(mistake.what for mistake in mistakes)
