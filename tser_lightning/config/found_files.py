"""Checks of config files from elsewhere (./experiments, --config-dir): they must not run or overwrite anything.

A file says what to compute. What runs around that, what is trusted, and where outside this folder anything is written
is said by the command.
"""

import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from tser_lightning.errors import UsageError
from tser_lightning.plain_yaml import BYTES, load

# Other settings, one's own default, the time: nothing that reads the environment, or makes text into something else.
_HARMLESS = re.compile(r"\$\{(\.*\w[\w.@/-]*|oc\.select:\s*[\w.]+\s*(,[^${}]*)?|now:[^${}]*)\}")
_SWEPT = re.compile(r"[^={}$\\]*")
_HYDRA = re.compile(r"(^|[\s/@.])_?hydra_?($|[\s/@.:])")
_SETTING = re.compile(r"[\w./@-]+")
INTERPOLATIONS = 10  # each may stand for a whole group, with others in it
WRITTEN = ("machine.runs_dir", "data.root", "report.dir")  # the settings that say where files go


def check_found(path: Path, group: str) -> None:
    """Check a config file before Hydra reads it.

    Args:
        path: The file.
        group: Its config group, e.g. "loss"; empty at the root.

    Raises:
        UsageError: It says what only a command may say, or is too large.
        yaml.YAMLError: It is no YAML.
    """
    if _HYDRA.search(group) or _HYDRA.search(path.stem):
        raise _refused(path, "is a config of Hydra by its place or name", "hydra/launcher=... in the command")
    if path.stat().st_size > BYTES:
        raise _unfit(path, f"it has {path.stat().st_size} bytes, and {BYTES} are the most")
    try:
        content = load(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error
    except ValueError as error:
        raise _unfit(path, str(error)) from error
    if content is not None and not isinstance(content, Mapping):
        raise UsageError(
            f"{_shown(path)} holds {'a list' if isinstance(content, list) else 'a single value'}",
            "a config is settings by their names",
            "KEY: VALUE in each line, e.g. seed: 2",
        )
    said = list(_interpolations(content))
    if len(said) > INTERPOLATIONS:
        raise _unfit(path, f"it has {len(said)} values that are ${{...}}, and {INTERPOLATIONS} are the most")
    for text in said:
        if not _HARMLESS.fullmatch(text):
            raise _refused(path, f"holds {text[:80]!r}", "a plain value, or ${group.setting}")
    if isinstance(content, Mapping):
        _check_choices(path, content.get("defaults"))
        _check_hydra(path, content.get("hydra"))


def check_package(path: Path, package: str | None) -> None:
    """Raise a `UsageError` if a file's header puts its settings among Hydra's."""
    if package is not None and _HYDRA.search(package):
        raise _refused(path, f"has the header @package {package}", "the setting in the command")


def _interpolations(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _interpolations(key)
            yield from _interpolations(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _interpolations(value)
    elif isinstance(node, str) and "${" in node:
        yield node


def _check_choices(path: Path, defaults: Any) -> None:
    for entry in defaults if isinstance(defaults, list) else ():
        for key in entry if isinstance(entry, Mapping) else (entry,):
            if isinstance(key, str) and _HYDRA.search(key):
                raise _refused(path, f"chooses {key} among its defaults", "the choice in the command")


def _check_hydra(path: Path, settings: Any) -> None:
    if settings is None:
        return
    sweeper = settings.get("sweeper") if isinstance(settings, Mapping) and settings.keys() == {"sweeper"} else None
    params = sweeper.get("params") if isinstance(sweeper, Mapping) and sweeper.keys() == {"params"} else None
    if not isinstance(params, Mapping):
        other = ", ".join(f"hydra.{key}" for key in settings) if isinstance(settings, Mapping) else "hydra"
        raise _refused(path, f"sets {other}", "hydra.KEY=VALUE in the command")
    for key, value in params.items():
        own = str(key).split(".")
        hidden = "_target_" in own or own[0] in ("trusted_modules", "hydra") or str(key) in WRITTEN
        if hidden or not _SETTING.fullmatch(str(key)) or _HYDRA.search(str(key)) or not _SWEPT.fullmatch(str(value)):
            raise _refused(path, f"sweeps over {key}={value}", f"-m {key}=... in the command")


def _refused(path: Path, what: str, fix: str) -> UsageError:
    return UsageError(
        what=f"{_shown(path)} {what}",
        why="a file says what to compute; what else happens on this machine is said by the command alone, since a file "
        "may come from elsewhere (hydra.sweeper.params with plain values may stand in a file)",
        fix=fix,
    )


def _not_utf8(path: Path, error: UnicodeDecodeError) -> UsageError:
    name, line = shlex.quote(_shown(path)), error.object.count(b"\n", 0, error.start) + 1
    wide = error.object[:2] in (b"\xff\xfe", b"\xfe\xff")
    return UsageError(
        f"{_shown(path)}, line {line}: byte {error.object[error.start]:#x} is not UTF-8",
        "config files are text in UTF-8",
        f"iconv -f {'utf-16' if wide else 'latin1'} -t utf-8 {name} > utf8.tmp && mv utf8.tmp {name}",
    )


def _unfit(path: Path, reason: str) -> UsageError:
    return UsageError(
        f"{_shown(path)} is no config: {reason}", "it is read before anything else is done", "a smaller file"
    )


def _shown(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def outside(config: Mapping[str, Any], given: Collection[str]) -> Iterator[UsageError]:
    """Find what files would let this program write outside the folder that it works in.

    Args:
        config: What files alone say, resolved, in plain containers.
        given: The dotted names of what the command sets, in whose place nothing of it counts.
    """
    for key in (key for key in WRITTEN if key not in given):
        group, _, name = key.partition(".")
        place = (config.get(group) or {}).get(name)
        if isinstance(place, str) and place != "???" and not _inside(place):
            yield UsageError(
                what=f"a config file sets {key}={place}, outside this folder",
                why="a file from elsewhere may not choose where on this machine is written; a command may",
                fix=f"{key}={place}, if that is what you want",
            )


def _inside(place: str) -> bool:
    here = os.getcwd()
    there = os.path.abspath(place)
    return not place.startswith("~") and (there == here or there.startswith(here.rstrip("/") + "/"))
