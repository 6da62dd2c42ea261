"""Messages about settings that do not exist, with what was probably meant."""

from collections.abc import Mapping
from typing import Any

from tser_lightning.config.command import GivenSetting
from tser_lightning.config.defaults import Defaults
from tser_lightning.config.readings import OFF, meant_inside
from tser_lightning.config.usage_errors import as_typed, nearest
from tser_lightning.errors import UsageError
from tser_lightning.registry.targets import is_foreign
from tser_lightning.schema.setting import setting, settings_of

# What the same thing is called elsewhere.
OTHER_NAMES = {
    "temperature": "tau",
    "lambda": "lam",
    "lamda": "lam",
    "T": "timesteps",
    "learning_rate": "lr",
    "max_epochs": "epochs",
    "num_workers": "workers",
    "gpus": "devices",
    "wd": "weight_decay",
}
STOPPING = ("early_stopping", "early_stop", "patience")
EARLY_STOPPING = (
    "+callbacks.early_stopping._target_=lightning.pytorch.callbacks.EarlyStopping "
    "+callbacks.early_stopping.monitor=val/acc +callbacks.early_stopping.mode=max"
)


def unknown_setting(given: GivenSetting, defaults: Defaults, config: Mapping[str, Any]) -> UsageError | None:
    """Check that a setting of the command exists; None if it does.

    Args:
        given: The setting as the command gives it.
        defaults: The settings that the chosen options define.
        config: The config as far as it is known, for the user's own `_target_`.
    """
    if is_place_of_data(given.key, defaults):
        return None
    here: Any = defaults.config
    own: Any = config
    parts = given.key.split(".")
    free = False
    for depth, part in enumerate(parts):
        free = free or is_foreign(own, here) or (depth > 0 and parts[0] == "callbacks")
        if isinstance(here, list) and part.isdigit() and int(part) < len(here):
            here, own = here[int(part)], None
        elif isinstance(here, Mapping) and part in here:
            here, own = here[part], own.get(part) if isinstance(own, Mapping) else None
        elif _has_default(config, given.key):
            return None
        elif free and part:
            return None if given.added else _needs_plus(given)
        else:
            return not_a_setting(given, ".".join(parts[:depth]), here, defaults)
    return None


def _has_default(config: Mapping[str, Any], key: str) -> bool:
    """Tell whether a setting is declared with a default, so that no file has to name it."""
    known = setting(config, key)
    return known is not None and known.has_default


def is_place_of_data(key: str, defaults: Defaults) -> bool:
    """Tell whether a setting says where the data of a finished run lie, whose kind is the run's."""
    return defaults.choices["task"] == "evaluate" and key in ("data.root", "data.path")


def _needs_plus(given: GivenSetting) -> UsageError:
    return UsageError(
        what=f"{given.key} is in no config file",
        why="a new setting for a class of your own needs a +, which says that it is no misprint",
        fix=f"+{given}",
    )


def not_a_setting(given: GivenSetting, parent: str, node: Any, defaults: Defaults) -> UsageError:
    """Make the `UsageError` for a setting that does not exist.

    Args:
        given: What does not exist.
        parent: The part of its name that does.
        node: The default of the parent.
        defaults: The settings that the chosen options define.
    """
    what = f"{given.key} is not a setting"
    if not isinstance(node, Mapping):
        why = f"{parent} is a single value ({as_typed(node)}) with no settings inside"
        return UsageError(what, why, f"{parent}={as_typed(node)}")
    optional = (name for name, known in settings_of(parent, node.get("_target_")).items() if known.has_default)
    names = sorted({*optional, *(name for name in node if not name.startswith("_"))})
    place = parent if "." in parent else defaults.place(parent) if parent else "a config"
    why = f"{place} has {', '.join(names)}"
    homes = defaults.elsewhere(given.key)
    if homes:
        group = given.key.partition(".")[0]
        takes = [option for option, known in homes.items() if known is None or known.takes(given.value)]
        fit = takes or [*homes]
        why = f"{why}; {_some(fit)} would have it"
        usual = defaults.configs.compose(whole=False).choices.get(group, "")  # what the program itself begins with
        home = nearest(defaults.choices.get(group, ""), fit) or (usual if usual in fit else fit[-1])
        known = homes[home]
        if takes or known is None:
            return UsageError(what, why, f"{group}={home} {given}")
        likely = f"{group}={home} {given.key}={known.names[0]}" if known.names else "the command without it"
        return UsageError(what, f"{why}, but {as_typed(given.value)} is not {known.wanted}", likely)
    return UsageError(what, why, _meant(given, parent, names, defaults))


def _some(options: list[str], most: int = 4) -> str:
    """Name the first few options, and count the others."""
    others = f" and {len(options) - most} others" if len(options) > most else ""
    return ", ".join(options[:most]) + others


def _meant(given: GivenSetting, parent: str, names: list[str], defaults: Defaults) -> str:
    key, value = given.key, as_typed(given.value)
    if key == "run":
        return f"task=evaluate run={value}"
    if not parent and (choice := _meant_choice(key, value, names, defaults)):
        return choice
    last = key.rpartition(".")[2]
    if last in STOPPING:
        return EARLY_STOPPING
    last = OTHER_NAMES.get(last, last)
    inside = nearest(last, names) if parent else None
    same = sorted((known for known in defaults.keys if known.rpartition(".")[2] == last), key=len)
    best = f"{parent}.{inside}" if inside else next(iter(same), None) or nearest(key, [*names, *defaults.keys])
    if best is None and (group := next((known for known in defaults.keys if f".{last}." in f".{known}"), None)):
        parent = group[: f".{group}.".index(f".{last}.") + len(last)]
        meant = meant_inside(parent, given.value, defaults.at(parent))
        return f"{meant[0]}={as_typed(meant[1])}" if meant else f"{group}=..."
    if best is None:
        return "--cfg job shows all settings, --help the groups"
    if best in defaults.groups:
        return f"{best}={defaults.choices[best]}"
    default = defaults.at(best)
    return f"{best}.{next(iter(default), 'NAME')}=..." if isinstance(default, Mapping) else f"{best}={value}"


def _meant_choice(key: str, value: str, names: list[str], defaults: Defaults) -> str | None:
    """Guess the group that was meant from the option that was given for a misspelt one."""
    homes = [group for group, options in defaults.groups.items() if value in options and value.lower() not in OFF]
    misspelt = nearest(key, [name for name in names if name in defaults.groups])
    if misspelt in homes or (misspelt and not homes and nearest(value, defaults.groups[misspelt])):
        return f"{misspelt}={nearest(value, defaults.groups[misspelt])}"
    return f"{'student' if 'student' in homes else homes[0]}={value}" if homes and value else None
