"""Checks of the files that a config points to: data, weights, finished runs, folders. Imports no torch."""

import importlib.util
import json
import re
import tempfile
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from tser_lightning.config.translation import arguments_as_settings
from tser_lightning.config.usage_errors import nearest
from tser_lightning.errors import UsageError


def check_files(
    config: Mapping[str, Any], choices: Mapping[str, str], spoiled: Collection[str] = ()
) -> list[UsageError]:
    """Check every file and folder that the task of a config needs.

    Args:
        config: Resolved, in plain containers.
        choices: The option of every group.
        spoiled: Parts of the config that are known to be wrong already; nothing is looked up for them.
    """
    checks: dict[str, Callable[[], None]] = {}
    task, machine, data = config["task"], config["machine"], config["data"]
    if task in ("distill", "teach"):
        checks["machine"] = lambda: _writable("machine.runs_dir", machine["runs_dir"])
        checks["data"] = lambda: _data(data)
        checks["teacher"] = lambda: _weights(config, choices)
        checks["student"] = lambda: _start(config["student"]["weights"])
        checks["logging"] = lambda: _trackio(config["logging"]["trackio"])
    elif task == "evaluate" and config["run"] is None:
        checks["data"] = lambda: _data(data)
        checks["student"] = lambda: _start(config["student"]["weights"])
    elif task == "prepare":
        checks["data"] = lambda: _writable("data.root", data.get("root", "."))
    elif task == "report":
        checks["report"] = lambda: _writable("report.dir", config["report"]["dir"])
    if "run" in config:
        checks["run"] = lambda: _finished(config["run"], machine["runs_dir"], config["student"]["weights"])
    mistakes = []
    for part, check in checks.items():
        try:
            if part not in spoiled:
                check()
        except UsageError as mistake:
            mistakes.append(mistake)
        except PermissionError as error:
            name = f"{error.filename or part}: {error.strerror}"
            mistakes.append(
                UsageError(name, f"{part} is another user's", "a path that you may read, or its permissions")
            )
        except (OSError, ValueError) as error:  # a name that is too long, or holds what no name may
            reason = getattr(error, "strerror", None) or str(error)
            mistakes.append(
                UsageError(
                    f"a path among the settings of {part} cannot be one", reason, "the path of a file that exists"
                )
            )
    return mistakes


def _data(settings: Mapping[str, Any]) -> None:
    from tser_lightning.data.checks import FACTS, check_data, is_prepared, prepared_facts

    with arguments_as_settings("data", settings):
        if is_prepared(settings) and any(settings.get(key) == "???" for key in FACTS):
            prepared_facts(Path(settings["path"]))  # says why it could not be asked
        ours = str(settings["_target_"]).startswith("tser_lightning.")
        if ours and not any(value == "???" for value in settings.values()):
            check_data(settings)


def _writable(key: str, folder: str) -> None:
    place = Path(folder).absolute()
    try:
        while not place.exists():
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            return
    except OSError as error:
        raise UsageError(
            what=f"{key}={folder}: nothing can be written there",
            why=f"{error.strerror or error} ({place})",
            fix=f"{key}=FOLDER with a folder of yours",
        ) from error


def _finished(run: str | None, runs_dir: str, weights: str | None) -> None:
    if run is None and weights is None:
        raise UsageError(
            what="run is not set",
            why="task=evaluate measures the student of a finished run, or that of student.weights",
            fix="run=runs/NAME",
        )
    if run is None or run == "???" or Path(run, "student.safetensors").is_file():
        return
    runs = sorted(str(path.parent) for path in Path(runs_dir).glob("*/student.safetensors"))
    exists = Path(run).is_dir()
    raise UsageError(
        what=f"run={run}: {'this run is not finished' if exists else 'there is no such folder'}",
        why="the task takes the student from the student.safetensors in it",
        fix=f"run={nearest(run, runs) or (runs[-1] if runs else 'runs/NAME')}",
    )


def _weights(config: Mapping[str, Any], choices: Mapping[str, str]) -> None:
    teacher = config.get("teacher") or {}
    weights = teacher.get("weights")
    if not teacher.get("_target_") or weights in (None, "train"):
        return
    scheme, colon, name = str(weights).partition(":")
    if colon and len(scheme) > 1 and "/" not in scheme:
        return _zoo(scheme, name)
    path = Path(weights)
    if not path.is_file():
        raise UsageError(
            what=f"teacher.weights={weights}: {'this is a folder' if path.is_dir() else 'there is no such file'}",
            why="the teacher's weights are a file, torchvision:NAME, timm:NAME, or `train` to train it now",
            fix="teacher.weights=train, or an existing file",
        )
    classes, known = readable_weights(path), config["data"].get("num_classes")
    if classes is not None and isinstance(known, int) and classes != known:
        raise UsageError(
            what=f"teacher.weights={weights} has {classes} classes, data={choices.get('data')} has {known}",
            why="distillation compares teacher and student class by class",
            fix="weights of a teacher of this data set, or teacher.weights=train",
        )


def _start(weights: str | None) -> None:
    """Raise a `UsageError` if what a student is to start from is not there; published files may have to be fetched."""
    scheme, colon, rest = str(weights).partition(":")
    if weights in (None, "teacher") or (colon and scheme == "published"):
        return
    path = Path(rest, "student.safetensors") if colon and scheme == "run" else Path(str(weights))
    if not path.is_file():
        raise UsageError(
            what=f"student.weights={weights}: {'this is a folder' if path.is_dir() else f'there is no file {path}'}",
            why="a student starts from FILE, teacher (its ANN twin), run:DIR (a finished run) or published:NAME",
            fix=f"student.weights=run:{path}" if path.is_dir() else "student.weights=null, or an existing file",
        )
    readable_weights(path, "student")


def _trackio(project: str | None) -> None:
    if project is None:
        return
    if not re.fullmatch(r"[A-Za-z0-9_-]+", project):
        raise UsageError(
            what=f"logging.trackio={project} is no name of a project",
            why="trackio makes a file of it: letters, digits, - and _",
            fix="logging.trackio=snn",
        )
    if importlib.util.find_spec("trackio") is None:
        raise UsageError(
            what=f"logging.trackio={project}: trackio is not installed",
            why="it is an extra: only this setting needs it",
            fix="pip install 'tser-lightning[trackio]'",
        )


def _zoo(scheme: str, name: str) -> None:
    if scheme not in ("torchvision", "timm") or not name:
        raise UsageError(
            what=f"teacher.weights={scheme}:{name} names no source of weights",
            why="weights come from a file, torchvision:NAME, timm:NAME, or `train`",
            fix="teacher.weights=torchvision:resnet34",
        )
    if importlib.util.find_spec(scheme) is None:
        raise UsageError(
            what=f"teacher.weights={scheme}:{name}: {scheme} is not installed",
            why="its weights are loaded through it",
            fix=f"pip install 'tser-lightning[{scheme}]'",
        )


def readable_weights(path: Path, whose: str = "teacher") -> int | None:
    """Check by its header alone that a file holds weights.

    Returns:
        The class count, where the header tells it (a safetensors file with a classifier `fc`, `head` or `classifier`).

    Raises:
        UsageError: The file is damaged, or neither safetensors nor a torch file.
    """
    with path.open("rb") as file:
        start = file.read(8)
        if path.suffix == ".safetensors":
            text = file.read(min(int.from_bytes(start, "little"), path.stat().st_size))
            return _classes(_header(path, start, text, whose))
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("data.pkl") for name in archive.namelist()):
                return None
    elif start[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04"):  # torch's format before 1.6
        return None
    raise _damaged(path, "it is neither safetensors nor a whole torch file", whose)


def _header(path: Path, start: bytes, text: bytes, whose: str) -> dict[str, Any]:
    size = int.from_bytes(start, "little")
    try:
        header: dict[str, Any] = json.loads(text)
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise _damaged(path, "its header is no header of safetensors", whose) from error
    if 8 + size + end != path.stat().st_size:
        raise _damaged(path, f"it has {path.stat().st_size} bytes, its header promises {8 + size + end}", whose)
    return tensors


def _classes(tensors: Mapping[str, Any]) -> int | None:
    heads = [
        entry["shape"][0]
        for name, entry in tensors.items()
        if name.endswith(("fc.weight", "head.weight", "classifier.weight")) and len(entry["shape"]) == 2
    ]
    return heads[0] if len(heads) == 1 else None


def _damaged(path: Path, reason: str, whose: str) -> UsageError:
    return UsageError(
        what=f"{whose}.weights={path} cannot be read",
        why=f"{reason}: damaged, or cut off while it was copied",
        fix=f"a fresh copy of the file, or {whose}.weights={'train' if whose == 'teacher' else 'null'}",
    )
