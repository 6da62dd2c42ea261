"""Checks of a composed config: types, ranges, settings without a value, classes that cannot be imported."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tser_lightning.config.command import GivenSetting
from tser_lightning.config.defaults import AUGMENT, Defaults, leaves
from tser_lightning.config.readings import meant_inside, readings
from tser_lightning.config.unknown_settings import is_place_of_data, not_a_setting
from tser_lightning.config.usage_errors import as_typed, nearest
from tser_lightning.data.checks import FACTS, is_prepared
from tser_lightning.errors import UsageError
from tser_lightning.records.source_code import own_names
from tser_lightning.registry.targets import MISSING, importable, is_foreign
from tser_lightning.schema.setting import Setting, setting, undeclared

FIXED_CLASSES = ("digits", "fashion_mnist", "cifar10", "cifar100", "imagenet")
EXAMPLES = {
    "run": "runs/NAME",
    "data.path": "/path/to/the/images",
    "data.num_classes": "10",
    "data.shape": "[3,32,32]",
    "data.mean": "[0.5,0.5,0.5]",
    "data.std": "[0.25,0.25,0.25]",
    "loss._target_": "my_module.MyLoss",
    "logging.trackio": "tser",
}


@dataclass(frozen=True)
class Checker:
    """Checks the values of a config against their declarations and their defaults.

    Attributes:
        defaults: What the files say.
        given: What the command gives, to tell it from what an experiment sets.
        derived: The dotted names of settings that follow others (`${loss.alpha}`); the others are checked.
    """

    defaults: Defaults
    given: Mapping[str, GivenSetting]
    derived: frozenset[str]

    def check(self, config: dict[str, Any]) -> Iterator[tuple[str, UsageError]]:
        """Find wrong types and values; whole numbers given for fractions become floats in place.

        Yields:
            The dotted name of a setting and what is wrong with it.
        """
        yield from self._walk(config, config, self.defaults.config, "", False)

    def _walk(
        self, whole: dict[str, Any], config: dict[str, Any], default: Mapping[str, Any], prefix: str, foreign: bool
    ) -> Iterator[tuple[str, UsageError]]:
        for name, value in list(config.items()):
            key = f"{prefix}{name}"
            if name not in default:
                if mistake := self._new(whole, key, value, default, foreign):
                    yield key, mistake
            elif not isinstance(default[name], Mapping):
                if mistake := self._leaf(whole, config, name, key, default[name], foreign):
                    yield key, mistake
            elif isinstance(value, Mapping):
                inside = foreign or is_foreign(value, default[name])
                yield from self._walk(whole, config[name], default[name], f"{key}.", inside)
            else:
                mistake = _not_a_value(key, value, default[name], self.defaults)
                yield key, mistake if self._typed(key) else _in_a_file(mistake, key, self.defaults)

    def _leaf(
        self, whole: dict[str, Any], config: dict[str, Any], name: str, key: str, default: Any, foreign: bool
    ) -> UsageError | None:
        value = config[name]
        if value == MISSING or (value is None and default is None) or (key in self.derived and not self._typed(key)):
            return None
        known = setting(whole, key) or undeclared(name, default, not foreign)
        if not known.takes(value):
            return self._wrong(key, value, default, known)
        if not foreign:
            config[name] = known.as_declared(value)
        return self._other_set(key, value, default)

    def _typed(self, key: str) -> bool:
        return any(key == name or key.startswith(f"{name}.") for name in self.given)

    def _wrong(self, key: str, value: Any, default: Any, known: Setting) -> UsageError:
        where = "" if self._typed(key) else f"experiment={self.defaults.choices.get('experiment', '')}: "
        shown = as_typed(value) if value != "" else "''"
        origin = f"the default of {self.defaults.place(key)} is {as_typed(default)}"
        return UsageError(
            what=f"{where}{key}={shown} is not {known.wanted}",
            why=f"{key}: {known.meaning}; {origin}" if known.meaning else origin,
            fix=_better(key, value, default, known),
        )

    def _new(
        self, whole: dict[str, Any], key: str, value: Any, default: Mapping[str, Any], foreign: bool
    ) -> UsageError | None:
        if key.startswith("callbacks."):
            return None if isinstance(value, Mapping) and "_target_" in value else _no_callback(key, value)
        if (known := setting(whole, key)) is not None and known.has_default:
            return None if known.takes(value) else self._wrong(key, value, known.field.default, known)
        if foreign or is_place_of_data(key, self.defaults):
            return None
        mistake = not_a_setting(GivenSetting(key, value), key.rpartition(".")[0], default, self.defaults)
        if self._typed(key):
            return mistake
        what = f"experiment={self.defaults.choices.get('experiment', '')} sets {key}, which is not a setting"
        return UsageError(what, mistake.why, f"{mistake.fix}, written as YAML in the experiment's file")

    def _other_set(self, key: str, value: Any, default: Any) -> UsageError | None:
        data = self.defaults.choices.get("data", "")
        if key != "data.num_classes" or data not in FIXED_CLASSES or value == default:
            return None
        return UsageError(
            what=f"data.num_classes={value}, but data={data} has {default} classes",
            why="the student's classifier has one output per class of the set",
            fix=f"data.num_classes={default}, or the set that has {value} classes",
        )


def _no_callback(key: str, value: Any) -> UsageError:
    return UsageError(
        what=f"{key}={as_typed(value)} is no callback",
        why="each entry of callbacks names a class of Lightning's Callback in _target_",
        fix=f"+{key}._target_=my_module.MyCallback",
    )


def _not_a_value(key: str, value: Any, default: Mapping[str, Any], defaults: Defaults) -> UsageError:
    packaged = next((choice for choice in defaults.choices if choice.partition("@")[2] == key), key)
    packaged = "augment" if key in AUGMENT else packaged
    names = [name for name in default if not name.startswith("_")]
    group = packaged.partition("@")[0]
    if group in defaults.groups and isinstance(value, str):
        fix = f"{packaged}={nearest(value, defaults.groups[group]) or defaults.choices.get(packaged, 'NAME')}"
    elif meant := meant_inside(key, value, default):
        fix = f"{meant[0]}={as_typed(meant[1])}"
    else:
        fix = f"{key}.{names[0]}={as_typed(default[names[0]])}" if names else "--cfg job"
    return UsageError(
        what=f"{key}={as_typed(value)}: {key} is not a single value",
        why=f"it is a group of settings: {', '.join(names)}",
        fix=fix,
    )


def _in_a_file(mistake: UsageError, key: str, defaults: Defaults) -> UsageError:
    """Rewrite what a mistake says to type for a config file, where a choice is a line of the defaults list."""
    setting, _, value = mistake.fix.partition("=")
    fix = f"{mistake.fix}, written as YAML in the experiment's file"
    if setting.partition("@")[0] in defaults.groups:
        fix = f"in the experiment's file, 'defaults:' with the line '  - override /{setting}: {value}'"
    return UsageError(f"experiment={defaults.choices.get('experiment', '')}: {mistake.what}", mistake.why, fix)


def _better(key: str, value: Any, default: Any, known: Setting) -> str:
    """Give the value that was most likely meant, else the default."""
    if isinstance(value, list) and len(value) > 1 and all(map(known.takes, value)):
        return f"-m {key}={','.join(map(as_typed, value))}, a run for each"
    meant = next((other for other in readings(value) if known.takes(other)), None)
    if meant is None:
        meant = nearest(str(value), known.names) or default
    if meant == MISSING or (meant is None and key in EXAMPLES):
        return f"{key}={EXAMPLES.get(key, 'VALUE')}"
    return f"{key}={as_typed(meant)}"


def missing_settings(raw: Mapping[str, Any], defaults: Defaults) -> list[UsageError]:
    """List the settings that have no default and were not given, in an unresolved config."""
    return [
        UsageError(
            what=f"{key} is not set",
            why=f"{defaults.place(key) if '.' in key else 'task=' + defaults.choices['task']} needs it, "
            f"and it has no default{': ' if defaults.about(key) else ''}{defaults.about(key)}",
            fix=f"{key}={EXAMPLES.get(key, 'my_module.my_network' if key.endswith('_target_') else 'VALUE')}",
        )
        for key, value in leaves(raw)
        if value == MISSING
        and (defaults.choices["task"], key) != ("init", "data.num_classes")  # which it counts
        and not (is_prepared(raw["data"]) and key.removeprefix("data.") in FACTS)  # which the file says
    ]


def unimportable_targets(config: Mapping[str, Any]) -> list[UsageError]:
    """Find `_target_`s whose package is not installed, or that the user's module does not define; imports nothing."""
    leaves_of_targets = ((key, value) for key, value in leaves(config) if key.rpartition(".")[2] == "_target_")
    targets = [(key, value) for key, value in leaves_of_targets if isinstance(value, str)]
    absent = [_no_module(key, value) for key, value in targets if not importable(value)]
    return absent + [mistake for key, value in targets if (mistake := _no_name(key, value)) is not None]


def _no_name(key: str, target: str) -> UsageError | None:
    module, _, name = target.rpartition(".")
    names = own_names(module) if module else None
    if names is None or name in names:
        return None
    public = {each.lower(): each for each in sorted(names) if not each.startswith("_")}
    close = difflib.get_close_matches(name.lower(), public, n=1)
    return UsageError(
        what=f"{key}={target}: there is no {name} in {module}",
        why=f"it defines {', '.join(list(public.values())[:8]) or 'nothing'}",
        fix=f"{key}={module}.{public[close[0]] if close else 'NAME'}",
    )


def _no_module(key: str, target: str) -> UsageError:
    top, dot, _ = target.partition(".")
    return UsageError(
        what=f"{key}={target} cannot be imported",
        why=f"Python finds no module {top!r} from this folder" if dot else "it is no path to something in a module",
        fix=f"{key}=my_module.MyClass with my_module.py in this folder",
    )
