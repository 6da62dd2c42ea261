"""Run identity: a name and hash made from everything that can change the result, and nothing else."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tser_lightning.data.checks import resize_for
from tser_lightning.records.first_version import data_as_hashed, loss_as_terms
from tser_lightning.schema.setting import is_of_a_task, setting

# Where and how a run is done and looked at; another value gives the same result. So do the settings of tasks.
IRRELEVANT = (
    "machine",
    "logging",
    "force",
    "task",
    "run",
    "runs",
    "input",
    "output",
    "format",
    "sweep",
    "prune",
    "measure",
    "hydra",
    "data.root",
    "data.eval_batch_size",
    "trusted_modules",
)
HASHED = ("data.eval_batch_size",)  # by a value of the first version's, whatever it is
LONGEST = 119


def matters(key: str) -> bool:
    """Tell whether a setting, by its dotted name, can change a result."""
    if is_of_a_task(key.partition(".")[0]):
        return False
    return not any(key == name or key.startswith((f"{name}.", f"{name}@")) for name in IRRELEVANT)


def identity(config: Mapping[str, Any]) -> str:
    """Hash what matters of a resolved config.

    Args:
        config: Plain containers: dicts with string keys, lists, numbers, text, true, false, null.

    Returns:
        8 hexadecimal digits of the SHA-256 of its canonical JSON: sorted keys, 1.0 written as 1.

    Raises:
        ValueError: A number that is infinite or NaN.
    """
    if isinstance(config.get("loss"), Mapping):
        config = {**config, "loss": loss_as_terms(config["loss"])}
    data = config.get("data")
    if isinstance(data, Mapping):
        if data.get("resize", 0) is None and data.get("shape"):
            data = {**data, "resize": resize_for(max(data["shape"][1:]))}
        config = {**config, "data": data_as_hashed(data)}
    said = _canonical(_without_defaults(config, config), "")
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _without_defaults(whole: Mapping[str, Any], node: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Drop settings at their declared default, so that a setting added later renames no older run."""
    kept: dict[str, Any] = {}
    for name, value in node.items():
        key = f"{place}.{name}" if place else str(name)
        if isinstance(value, Mapping):
            kept[name] = _without_defaults(whole, value, key)
        elif (known := setting(whole, key)) is None or not known.has_default or known.field.default != value:
            kept[name] = value
    return kept


def _canonical(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        inner = ((name, f"{key}.{name}" if key else str(name)) for name in value)
        said = ((name, path) for name, path in inner if matters(path) or path in HASHED)
        return {str(name): _canonical(value[name], path) for name, path in said}
    if isinstance(value, list | tuple):
        return [_canonical(item, f"{key}[]") for item in value]
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value


def run_name(experiment: str, overrides: Iterable[str], digest: str) -> str:
    """Name a run so that a person can tell it from its neighbours.

    Args:
        experiment: E.g. "digits".
        overrides: What makes it differ from its experiment, in any order, e.g. ["loss=tser", "loss.lam=0.1"].
        digest: Its identity; two runs with different ones never share a name.

    Returns:
        E.g. "digits-loss_tser-lam_0.1-1a2b3c4d", the loss first: letters, digits and ``._-`` alone, below 120
        characters. What does not fit is left out.
    """
    name = _clean(experiment)[:40] or "run"
    for override in sorted(set(overrides), key=_loss_first):
        key, _, value = override.partition("=")
        word = _clean(f"{key.partition('.')[2] or key}_{value}")
        if word and len(f"{name}-{word}-{digest}") <= LONGEST:
            name = f"{name}-{word}"
    return f"{name}-{digest}"


def _loss_first(override: str) -> tuple[bool, str, str]:
    key = override.partition("=")[0]
    return key != "loss", key.rpartition(".")[2], override


def _clean(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("._")
