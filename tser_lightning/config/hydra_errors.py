"""Hydra's errors in composing a config as what, why and what to type."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import yaml
from hydra.errors import MissingConfigException

from tser_lightning.config.command import unknown_option
from tser_lightning.config.hydra_loader import GROUP, PRIMARY, Configs
from tser_lightning.config.usage_errors import nearest
from tser_lightning.errors import UsageError


def uncomposable(error: Exception, choices: Mapping[str, str], configs: Configs) -> UsageError:
    """Turn an error of Hydra's in composing a config into a `UsageError`.

    Args:
        error: What Hydra or YAML raised.
        choices: The overrides of groups that the command gives; other choices are the experiment's.
        configs: All config files that a command can choose from.
    """
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_file(str(error.missing_cfg_file), str(error), choices, configs)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return _no_yaml(str(error.problem), error.problem_mark, choices.get(GROUP, "a config file"))
    said = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    refused = re.search(r"Could not override '([^']+)'", said[0])
    if refused:
        return _unused_override(refused[1], said, configs)
    why = f"{' '.join(said)} {error.__cause__ or ''}"
    return UsageError(
        "the config files do not go together", why[:240], "--info defaults shows which file asks for which"
    )


def _no_yaml(problem: str, mark: yaml.Mark, unnamed: str) -> UsageError:
    fix = "key: value, with a space behind the colon and the same indent for what belongs together"
    if problem.startswith("found duplicate key"):
        fix = f"one {problem.rpartition(' ')[2]}: with all that belongs to it"
    elif os.path.isfile(mark.name) and b"\t" in Path(mark.name).read_bytes().splitlines()[mark.line]:
        name = shlex.quote(mark.name)
        fix = f"expand -t 2 {name} > spaces.tmp && mv spaces.tmp {name}"
    return UsageError(
        what=f"{unnamed if mark.name.startswith('<') else mark.name}, line {mark.line + 1}: this is not YAML",
        why=f"{problem} at column {mark.column + 1}",
        fix=fix,
    )


def _missing_file(path: str, said: str, choices: Mapping[str, str], configs: Configs) -> UsageError:
    group, _, option = path.rpartition("/")
    mistake = unknown_option(group, option, configs.options(group), configs)
    asker = re.search(r"In '([^']+)'", said)
    if asker is None or group in choices:
        return mistake
    where = choices.get(GROUP, "the default experiment") if asker[1] == PRIMARY else asker[1].replace("/", "=")
    return UsageError(f"{where} asks for {group}={option}, which does not exist", mistake.why, mistake.fix)


def _unused_override(key: str, said: list[str], configs: Configs) -> UsageError:
    if key.startswith("hydra"):
        return UsageError(f"{key} is not a setting of Hydra", said[0], "--cfg hydra shows what is")
    group = key.partition("@")[0]
    places = [place for place in configs.compose().choices if place.partition("@")[0] == group]
    fix = f"{nearest(key, places) or places[0]}=NAME" if places else "--help lists the groups"
    asker = f"{said[0].partition(':')[0]}: " if said[0].startswith("In ") else ""
    return UsageError(f"{asker}{key}: no part of a run reads this", f"{group} is chosen as {', '.join(places)}", fix)
