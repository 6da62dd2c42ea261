"""The options of config groups as plain settings: what `build_loss("tser")` takes from conf/loss/tser.yaml.

No command and no Hydra: a name, its file, the values that the caller gives, each compared with its declaration.
"""

import difflib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from tser_lightning.errors import UsageError
from tser_lightning.registry import architectures
from tser_lightning.registry.places import folder
from tser_lightning.schema.setting import setting

ALONE = {"timesteps": 4}  # of a neuron or a norm without a student: the steps that most students have


@cache
def names(group: str) -> list[str]:
    """List the options of a group, e.g. ["bkdsnn", "ce", ...] for "loss"."""
    own = {file.stem for file in Path(folder("conf"), group).glob("*.yaml")}
    return sorted(own | set(architectures.options(_architectures(), group)))


def _architectures() -> Path:
    return folder("conf") / architectures.FOLDER


@cache
def _content(group: str, name: str) -> dict[str, Any]:
    if name not in names(group):
        close = difflib.get_close_matches(str(name), names(group), n=1, cutoff=0.5)
        raise UsageError(
            what=f"there is no {group} {name!r}",
            why=f"there are {', '.join(names(group))}",
            fix=f"{close[0] if close else names(group)[0]!r}",
        )
    if name in architectures.options(_architectures(), group):
        content = architectures.settings(_architectures(), group, name)
    else:
        content = yaml.safe_load(Path(folder("conf"), group, f"{name}.yaml").read_text(encoding="utf-8"))
    return {key: value for key, value in content.items() if key != "defaults"}


def configured(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Give the settings of some groups, with values of the caller's, resolved.

    Args:
        parts: For each group, e.g. "neuron", the name of an option and settings: `{"name": "lif", "decay": 0.2}`.

    Raises:
        UsageError: An unknown option or setting, or a value that it does not take.
    """
    parts = {group: _of_size(group, part) for group, part in parts.items()}
    options = {group: str(part.get("name")) for group, part in parts.items()}
    files = {group: _content(group, option) for group, option in options.items()}
    given: dict[str, dict[str, Any]] = {group: {} for group in parts}
    for group, part in parts.items():
        for name, value in part.items():
            if name != "name":
                given[group][name] = _checked(group, name, value, options, files)
    whole = OmegaConf.merge({"student": ALONE} if "student" not in files else {}, files, given)
    resolved: dict[str, Any] = OmegaConf.to_container(whole, resolve=True)  # type: ignore[assignment]
    return resolved


def _of_size(group: str, part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Let the size of an architecture choose the option of that size."""
    given = {f"{group}.{name}": value for name, value in part.items()}
    for _, option in architectures.with_sizes(_architectures(), {group: str(part.get("name"))}, given, ()):
        return {"name": option, **{name: value for name, value in part.items() if name not in ("name", "size")}}
    return part


Files = Mapping[str, Mapping[str, Any]]


def _checked(group: str, name: str, value: Any, options: Mapping[str, str], files: Files) -> Any:
    """Give a value in its declared type; a `UsageError` if there is no such setting, or it takes no such value."""
    known = setting(files, f"{group}.{name}")
    if known is None or (name not in files[group] and not known.has_default):
        raise _no_setting(group, name, value, options, files)
    if not known.takes(value):
        raise UsageError(
            what=f"{name}={value!r} is not {known.wanted}",
            why=f"it is, for {options[group]}: {known.meaning}",
            fix=f"{name}={files[group].get(name, known.field.default)!r}",
        )
    return known.as_declared(value)


def _no_setting(group: str, name: str, value: Any, options: Mapping[str, str], files: Files) -> UsageError:
    home = next((other for other in files if other != group and name in files[other]), None)
    if home is not None:
        return UsageError(
            what=f"{name} is a setting of the {home}, not of the {group}",
            why=f"{options[group]} is given its {home} as a part",
            fix=f'{home}={{"name": "{options[home]}", "{name}": {value!r}}}',
        )
    there = [key for key in files[group] if not key.startswith("_")]
    close = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
    return UsageError(
        what=f"{options[group]} has no setting {name}",
        why=f"it has {', '.join(there)}",
        fix=f"{close[0]}={value!r}" if close else "one of these",
    )
