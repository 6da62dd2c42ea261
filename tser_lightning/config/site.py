"""Defaults of a site: `site.yaml` with settings of `machine` and `logging` for all users of a machine."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tser_lightning.config.defaults import leaves
from tser_lightning.config.usage_errors import as_typed
from tser_lightning.errors import UsageError
from tser_lightning.plain_yaml import load
from tser_lightning.schema.setting import setting

GROUPS = ("machine", "logging")


def site_file() -> Path:
    """Give the path of site.yaml: in the folder that TSER_CONFIG_DIR names, else ~/.config/tser_lightning."""
    own = os.environ.get("TSER_CONFIG_DIR")
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path(own or home / "tser_lightning") / "site.yaml"


def site_settings() -> dict[str, Any]:
    """Read site.yaml: values by dotted name; empty without the file.

    E.g. `machine: {runs_dir: /scratch/me/runs, workers: 8}`. Experiments and commands go before it.

    Raises:
        UsageError: It cannot be read, or says what is no setting of `machine` or `logging`.
    """
    file = site_file()
    if not file.is_file():
        return {}
    try:
        content = load(file.read_text(encoding="utf-8"), str(file))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _wrong(file, f"cannot be read: {' '.join(str(error).split())[:160]}") from error
    if content is not None and not isinstance(content, Mapping):
        raise _wrong(file, "holds no settings by name")
    found = dict(leaves(content or {}))
    for key, value in found.items():
        known = setting({}, key) if key.partition(".")[0] in GROUPS else None
        if known is None:
            raise _wrong(file, f"sets {key}, which is no setting of {' or '.join(GROUPS)}")
        if not known.takes(value):
            raise _wrong(file, f"sets {key}={as_typed(value)}, which is not {known.wanted}")
        found[key] = known.as_declared(value)
    return found


def _wrong(file: Path, what: str) -> UsageError:
    return UsageError(
        what=f"{file} {what}",
        why="it gives this site's defaults of machine and logging, which change no result",
        fix="a line like `machine: {runs_dir: /scratch/me/runs}` there, or the file removed",
    )
