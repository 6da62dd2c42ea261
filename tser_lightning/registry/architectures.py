"""Architectures as options of `student` and of `teacher`: one file in conf/architecture for both, and for all sizes.

A file holds what both roles have, what each adds under its name (a role that it does not name is not offered), and what
each of its `sizes` sets: `resnet` with a size 18 is the option resnet18, `spikformer` with a size 4_384 the option
spikformer_4_384. The file's own name is an option too, the first size. `like: NAME` takes what another file says.
"""

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tser_lightning.errors import UsageError

ROLES = ("student", "teacher")
FOLDER = "architecture"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # all files are read to list their sizes


@cache
def _files(folder: Path) -> dict[str, dict[str, Any]]:
    return {file.stem: yaml.load(file.read_text(encoding="utf-8"), LOADER) for file in sorted(folder.glob("*.yaml"))}


@cache
def _file(folder: Path, name: str) -> dict[str, Any]:
    """What a file says, with what the file that it is like says."""
    own = dict(_files(folder)[name])
    return {**_file(folder, own.pop("like")), **own} if "like" in own else own


@cache
def options(folder: Path, role: str) -> dict[str, tuple[str, str | None]]:
    """Give file and size of every option of a role; the size of a file's own name is the first, or None."""
    found: dict[str, tuple[str, str | None]] = {}
    for name in _files(folder):
        content = _file(folder, name)
        if role in content:
            sizes = [str(size) for size in content.get("sizes", ())]
            found[name] = (name, sizes[0] if sizes else None)
            found |= {sized(name, size): (name, size) for size in sizes}
    return found


def sized(name: str, size: str) -> str:
    """Write the option of a size: resnet18, spikformer_4_384."""
    return f"{name}{size}" if size.isdigit() else f"{name}_{size}"


def settings(folder: Path, role: str, option: str) -> dict[str, Any]:
    """Give what an option of a role says: what both have, what its size sets, what the role adds."""
    name, size = options(folder, role)[option]
    content = _file(folder, name)
    shared = {key: value for key, value in content.items() if key not in (*ROLES, "sizes")}
    sizes = {str(key): value for key, value in content.get("sizes", {}).items()}
    return {"_target_": None, **shared, **sizes.get(size or "", {}), **content[role]}


def text(folder: Path, role: str, option: str) -> str:
    """Give the lines of an option's file, those of the other role left out, as if the role's stood at its start."""
    return "\n".join(_lines(folder, role, options(folder, role)[option][0])) + "\n"


def _lines(folder: Path, role: str, name: str) -> Iterator[str]:
    part = ""
    for line in (folder / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if line[:1] not in (" ", "#", ""):
            part = line.partition(":")[0]
        if part not in ROLES:
            yield line
        elif part == role and line.startswith("  "):
            yield line[2:]
    if "like" in _files(folder)[name]:
        yield from _lines(folder, role, _files(folder)[name]["like"])


def of_size(folder: Path, role: str, option: str, size: Any) -> str:
    """Give the option of an architecture's size.

    Args:
        folder: conf/architecture.
        role: "student" or "teacher".
        option: Of any size, or the name of the file.
        size: As it was read: a command's 4_384 is the number 4384.

    Raises:
        UsageError: It has no such size.
    """
    name, _ = options(folder, role)[option]
    sizes = [known for file, known in options(folder, role).values() if file == name and known]
    given = str(size).replace("_", "").lower()
    found = next((known for known in sizes if known.replace("_", "") == given), None)
    if found is None:
        raise UsageError(
            what=f"{role}.size={size} is no size of {name}",
            why=f"it is published as {', '.join(dict.fromkeys(sizes))}",
            fix=f"{role}={name} {role}.size={sizes[0]}",
        )
    return sized(name, found)


def with_sizes(
    folder: Path, choices: Mapping[str, str], given: Mapping[str, Any], named: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Find the options that a command means by the names of files and by sizes, e.g. ("student", "spikformer_2_384").

    Args:
        folder: conf/architecture.
        choices: The option of every group.
        given: The values of settings, by dotted name.
        named: The groups whose option the command names.

    Raises:
        UsageError: There is no such size.
    """
    for role in ROLES:
        option = choices.get(role, "")
        name, first = options(folder, role).get(option, ("", None))
        if first is not None and (f"{role}.size" in given or (role in named and option == name)):
            yield role, of_size(folder, role, name, given.get(f"{role}.size", first))
