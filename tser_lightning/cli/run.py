"""From a command to a checked, resolved, plain description of a run. Imports no torch."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tser_lightning.cli.check import (
    MISSING,
    Defaults,
    check_values,
    leaves,
    missing_settings,
    unimportable_targets,
    unknown_setting,
)
from tser_lightning.cli.command import Command, Setting, read, unknown_option
from tser_lightning.cli.config import Configs, chosen
from tser_lightning.cli.files import check_files
from tser_lightning.cli.mistakes import as_typed, refuse
from tser_lightning.mistake import Mistake
from tser_lightning.tracking.identity import identity, matters, run_name


@dataclass(frozen=True)
class Run:
    """What a command asks for, once it is known to be right.

    Attributes:
        config: The whole config, resolved, in plain containers.
        choices: The option of every group: {"experiment": "digits", "loss": "tser", ...}.
        overrides: The command's overrides as given.
        given: The settings that the command gives, by dotted name, whether or not they differ from the default.
        changed: The settings that differ from their option's own file or from the experiment, by dotted name.
        differences: Sorted overrides that make this run out of its experiment; the loss is always among them.
        notes: What had to be left out, to be said aloud.
    """

    config: dict[str, Any]
    choices: dict[str, str]
    overrides: list[str] = field(default_factory=list)
    given: dict[str, Any] = field(default_factory=dict)
    changed: dict[str, Any] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the run directory: the same for everything that gives the same result."""
        return run_name(self.choices.get("experiment", "run"), self.differences, identity(self.config))


def compose_run(
    overrides: Sequence[str] = (),
    *,
    settings: Mapping[str, Any] | None = None,
    check_data: bool = True,
    configs: Configs | None = None,
) -> Run:
    """Compose and check a run.

    Args:
        overrides: As on the command line, e.g. ["experiment=digits", "loss=ce", "seed=2"].
        settings: More settings by dotted name, as Python values.
        check_data: Whether files (data, weights, a finished run) have to be there and every `???` has to be set.
        configs: The config files to choose from; the package's and ./experiments by default.

    Raises:
        Mistakes: All that is wrong.
    """
    configs = configs or Configs()
    command = read(overrides, configs)
    for key, value in (settings or {}).items():
        command.settings[key] = Setting(key, value, added=True)
    composed = _Composed(command, configs)
    mistakes = [*command.mistakes, *composed.mistakes]
    config = composed.config
    if check_data and not mistakes:
        mistakes = [*missing_settings(config, composed.defaults), *unimportable_targets(config)]
        mistakes += check_files(config, composed.choices, configs.groups)
    refuse(mistakes)
    return composed.run(list(overrides))


class _Composed:
    """One command's config at its three levels: option files, experiment, command."""

    def __init__(self, command: Command, configs: Configs) -> None:
        self.mistakes: list[Mistake] = []
        self.notes: list[str] = []
        self.command, self.configs = command, configs
        try:
            files, experiment = self._compose()
        except Mistake as mistake:
            refuse([*command.mistakes, mistake])
        self.choices = chosen(files)
        groups = {group: configs.options(group) for group in configs.groups()}
        self.defaults = Defaults(plain(_own(files), {}), self.choices, groups)
        self._leave_out(experiment)
        self.experiment = plain(experiment, {})
        self.raw = self._apply(experiment)
        broken: dict[str, str] = {}
        self.config: dict[str, Any] = plain(experiment, broken)
        self.mistakes += check_values(self.config, self.defaults, command.settings)
        self.mistakes += self._unresolved(broken)

    def _compose(self) -> tuple[DictConfig, DictConfig]:
        choices = [*self.command.choices.values()]
        try:
            return self.configs.compose(choices, whole=False), _own(self.configs.compose(choices))
        except (HydraException, OmegaConfBaseException, yaml.YAMLError, OSError, ValueError, AssertionError) as error:
            raise _uncomposable(error, self.configs) from error

    def _leave_out(self, experiment: DictConfig) -> None:
        """Drop what the experiment sets for its own options where others were chosen."""
        strays = _strays(experiment, self.defaults.config)
        name = self.choices.get("experiment")
        if not strays or name is None:
            return
        own = plain(_own(self.configs.compose([f"experiment={name}"], whole=False)), {})
        for key in (key for key in strays if _has(own, key)):
            parent, _, last = key.rpartition(".")
            del OmegaConf.select(experiment, parent)[last]
            group = key.partition(".")[0]
            if self.defaults.at(f"{group}._target_") is not None:
                self.notes.append(
                    f"experiment={name} sets {key}, which {group}={self.choices[group]} does not have: left out"
                )

    def _apply(self, config: DictConfig) -> DictConfig:
        known: list[Setting] = []
        ordered = sorted(self.command.settings.values(), key=lambda setting: not setting.key.endswith("_target_"))
        for setting in ordered:
            mistake = unknown_setting(setting, self.defaults, plain(config, {}))
            if mistake:
                self.mistakes.append(mistake)
                continue
            try:
                OmegaConf.update(config, setting.key, setting.value, merge=True, force_add=True)
                known.append(setting)
            except (OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
                self.mistakes.append(_unfit(setting, error, self.defaults))
        return config

    def _unresolved(self, broken: Mapping[str, str]) -> list[Mistake]:
        if self.mistakes or self.command.mistakes:
            return []  # what follows from another mistake is no news
        return [
            Mistake(
                what=f"{key} cannot be resolved",
                why=reason,
                fix=f"{key}={as_typed(self.defaults.at(key))}",
            )
            for key, reason in broken.items()
        ]

    def run(self, overrides: list[str]) -> Run:
        """Describe the run."""
        raw = dict(leaves(OmegaConf.to_container(self.raw)))  # type: ignore[arg-type]
        values = {
            key: value
            for key, value in leaves(self.config)
            if matters(key) and not key.endswith("_target_") and not _interpolated(raw.get(key))
        }
        default, set_here = dict(leaves(self.defaults.config)), dict(leaves(self.experiment))
        same = {key for key, value in values.items() if default.get(key) == value == set_here.get(key)}
        changed = {key: value for key, value in values.items() if key not in same}
        own = {key: value for key, value in changed.items() if set_here.get(key) != value}
        return Run(
            config=self.config,
            choices=self.choices,
            overrides=overrides,
            given={key: _at(self.config, key) for key in self.command.settings},
            changed=changed,
            differences=sorted([*self._other_choices(), *(f"{key}={as_typed(value)}" for key, value in own.items())]),
            notes=self.notes,
        )

    def _other_choices(self) -> list[str]:
        name = self.choices.get("experiment")
        base = {} if name is None else chosen(self.configs.compose([f"experiment={name}"], whole=False))
        return [
            f"{key}={option}"
            for key, option in self.choices.items()
            if key == "loss" or (key != "experiment" and matters(key) and base.get(key) != option)
        ]


def _own(config: DictConfig) -> DictConfig:
    """Take Hydra's own node out of a composed config and open it for changes."""
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    return config


def plain(node: Any, broken: dict[str, str], prefix: str = "") -> Any:
    """Resolve a config into plain containers; what cannot be resolved stays as it is and is named in `broken`."""
    if isinstance(node, ListConfig):
        return [_resolved(node, index, f"{prefix}{index}", broken) for index in range(len(node))]
    return {str(name): _resolved(node, name, f"{prefix}{name}", broken) for name in node}


def _resolved(node: Any, name: Any, key: str, broken: dict[str, str]) -> Any:
    if OmegaConf.is_missing(node, name):
        return MISSING
    try:
        value = node[name]
    except (OmegaConfBaseException, RecursionError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "MissingMandatoryValue" not in reason and "InterpolationToMissing" not in type(error).__name__:
            broken[key] = reason
        return MISSING
    return plain(value, broken, f"{key}.") if isinstance(value, DictConfig | ListConfig) else value


def _interpolated(raw: Any) -> bool:
    return isinstance(raw, str) and "${" in raw


def _strays(config: DictConfig, default: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name in map(str, config):
        inner = config._get_node(name)
        if name not in default:
            found.append(f"{prefix}{name}")
        elif isinstance(inner, DictConfig) and isinstance(default[name], Mapping):
            found += _strays(inner, default[name], f"{prefix}{name}.")
    return found


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    return tree


def _has(tree: Any, key: str) -> bool:
    try:
        _at(tree, key)
    except (KeyError, TypeError, ValueError, IndexError):
        return False
    return True


def _unfit(setting: Setting, error: Exception, defaults: Defaults) -> Mistake:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return Mistake(
        what=f"{str(setting)[:120]} cannot be set",
        why=reason[:160],
        fix=f"{setting.key}={as_typed(defaults.at(setting.key))}",
    )


def _uncomposable(error: Exception, configs: Configs) -> Mistake:
    """Say what Hydra says when config files do not go together."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        asker = re.search(r"In '([^']+)'", str(error))
        mistake = unknown_option(group, option, configs.options(group), configs)
        if asker:
            what = f"{asker[1].replace('/', '=')} asks for {group}={option}, which does not exist"
            return Mistake(what, mistake.why, mistake.fix)
        return mistake
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return Mistake(
            what=f"{mark.name}, line {mark.line + 1}: this is not YAML",
            why=str(error.problem),
            fix=f"a text editor at column {mark.column + 1} of that line",
        )
    said = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    group = re.search(r"override '([^']+)'", said[0])
    meant = re.search(r"override (?:one of )?([\w@./, ]+)\?", said[-1]) if len(said) > 1 else None
    if group and said[-1].startswith("To append"):
        return Mistake(said[0], "the group is in no defaults list", said[-1].rpartition(" ")[2])
    return Mistake(
        what="the config files do not go together",
        why=" ".join(said)[:240],
        fix=f"{meant[1].rpartition(', ')[2] or meant[1]}=NAME"
        if meant
        else "--info defaults shows which file asks for which",
    )
