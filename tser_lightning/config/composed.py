"""The config of one command, composed of option files, the experiment and the command's overrides."""

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tser_lightning.config.check import Checker
from tser_lightning.config.command import PATHS, GivenSetting, chosen, parse_command
from tser_lightning.config.defaults import Defaults, leaves
from tser_lightning.config.found_files import outside
from tser_lightning.config.hydra_errors import uncomposable
from tser_lightning.config.hydra_loader import Composition, Configs
from tser_lightning.config.site import site_settings
from tser_lightning.config.unknown_settings import unknown_setting
from tser_lightning.config.usage_errors import as_typed, refuse
from tser_lightning.data.checks import FACTS, is_prepared, prepared_facts
from tser_lightning.errors import UsageError
from tser_lightning.registry.architectures import with_sizes
from tser_lightning.registry.targets import MISSING

TRIALS = ("digits", "synthetic")  # data that the recipe of the default experiment fits


class Composed:
    """A composed config whose names, types and ranges are checked.

    Attributes:
        command: What was asked for.
        choices: The option of every group.
        defaults: What the files of these options say.
        experiment: The same with what the experiment sets, resolved, in plain containers.
        raw: The same with what the command sets; interpolations as they are.
        config: `raw`, resolved, in plain containers.
        mistakes: What is wrong, those of the command included.
        spoiled: The first parts of the dotted names of settings that are wrong.
        notes: What was left out.
        measured: Settings that nobody has set and that the data say of themselves.

    Raises:
        UsageErrors: The config files do not go together.
    """

    def __init__(self, overrides: Sequence[str], configs: Configs, settings: Mapping[str, Any] | None = None) -> None:
        self.configs, self.command = configs, parse_command(overrides, configs)
        for key, value in (settings or {}).items():
            self.command.settings[key] = GivenSetting(key, value, added=True)
        self.mistakes, self.spoiled, self.notes = list(self.command.mistakes), set[str](), list[str]()
        self._start_plainly()
        files, self.raw = self._layers()
        self.choices = files.choices
        self.defaults = Defaults(plain(files.config), self.choices, configs)
        self._leave_out()
        self.experiment: dict[str, Any] = plain(self.raw)
        self.mistakes += outside(self.experiment, self.command.settings)
        self._settle_in()
        self._apply()
        self._expand()
        self.measured = self._measure()
        broken: dict[str, str] = {}
        self.config: dict[str, Any] = plain(self.raw, broken)
        checker = Checker(self.defaults, self.command.settings, frozenset(self.derived()))
        for key, mistake in checker.check(self.config):
            self._refuse(key, mistake)
        self._unresolved(broken)

    def _refuse(self, key: str, mistake: UsageError) -> None:
        self.mistakes.append(mistake)
        self.spoiled.add(key.partition(".")[0])

    def _start_plainly(self) -> None:
        """Drop the default experiment where other data are chosen: its recipe is for its own images."""
        data = self.command.choices.get("data", "data=digits").partition("=")[2]
        if data not in TRIALS and "experiment" not in self.command.choices:
            self.command.choices["experiment"] = "experiment=none"
            self.notes.append(f"data={data} without experiment=NAME: the plain defaults, not the recipe of the digits")

    def _layers(self) -> tuple[Composition, DictConfig]:
        try:
            self._choose_sizes()
            choices = list(self.command.choices.values())
            files = self.configs.compose(choices, whole=False)
            alone = files.choices["experiment"] == "none"
            return files, copy.deepcopy(files.config) if alone else self.configs.compose(choices).config
        except (HydraException, yaml.YAMLError) as error:
            refuse([*self.mistakes, uncomposable(error, self.command.choices, self.configs)])
            raise AssertionError("unreachable") from error
        except UsageError as error:
            refuse([*self.mistakes, error])
            raise AssertionError("unreachable") from error

    def _choose_sizes(self) -> None:
        """Let `student.size` choose the option of that size."""
        choices = self.configs.compose(list(self.command.choices.values()), whole=False).choices
        given = {key: setting.value for key, setting in self.command.settings.items()}
        for role, option in with_sizes(self.configs.architectures, choices, given, self.command.choices):
            self.command.choices[role] = chosen(role, option)
            self.command.settings.pop(f"{role}.size", None)

    def _leave_out(self) -> None:
        """Drop what the experiment sets for its own options where others were chosen.

        Losses are what an experiment compares: its temperature is for those that have one, which is no news.
        """
        strays = list(_strays(self.raw, self.defaults.config))
        name = self.choices["experiment"]
        bare = self.bare_experiment() if strays else None
        own = plain(bare.config) if bare else {}
        for key in (key for key in strays if _has(own, key)):
            parent, _, last = key.rpartition(".")
            del OmegaConf.select(self.raw, parent)[last]
            group = key.partition(".")[0]
            if group != "loss" and self.defaults.at(f"{group}._target_") is not None:
                note = f"experiment={name} sets {key}, which {self.defaults.place(key)} does not have: left out"
                self.notes.append(note)

    def _settle_in(self) -> None:
        """Apply the defaults of site.yaml where neither the experiment nor the command sets a value."""
        try:
            found = site_settings()
        except UsageError as mistake:
            self.mistakes.append(mistake)
            return
        said = dict(leaves(self.experiment))
        for key, value in found.items():
            if said.get(key) == self.defaults.at(key):
                OmegaConf.update(self.raw, key, value, force_add=True)

    def bare_experiment(self) -> Composition | None:
        """Compose the experiment's choices alone; None if one of its options does not exist."""
        try:
            return self.configs.compose([chosen("experiment", self.choices["experiment"])], whole=False)
        except (HydraException, yaml.YAMLError):
            return None

    def _apply(self) -> None:
        """Apply the command's overrides; a `_target_` first, since it decides which other settings are allowed."""
        for setting in sorted(self.command.settings.values(), key=lambda each: not each.key.endswith("_target_")):
            mistake = unknown_setting(setting, self.defaults, plain(self.raw))
            if mistake is None:
                try:
                    OmegaConf.update(self.raw, setting.key, setting.value, merge=True, force_add=True)
                except (OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
                    mistake = _unfit(setting, error, self.defaults)
            if mistake is not None:
                self._refuse(setting.key, mistake)

    def _expand(self) -> None:
        """Normalise paths: img for ./img/, and ~ expanded, which no shell does behind a `=`.

        A run is known by its settings, and those are not to differ by a slash that tab completion adds.
        """
        for key in PATHS:
            parent, _, name = key.rpartition(".")
            node = OmegaConf.select(self.raw, parent) if parent else self.raw
            value = node._get_node(name) if isinstance(node, DictConfig) else None
            text = value and value._value()
            if isinstance(text, str) and text and "://" not in text and "${" not in text:
                node[name] = str(PurePath(os.path.expanduser(text)))

    def _measure(self) -> tuple[str, ...]:
        """Fill in what a prepared file says of itself where it is not set; an unreadable file is refused later."""
        node = self.raw.get("data")
        if not is_prepared(plain(node)) or not (wanted := [key for key in FACTS if OmegaConf.is_missing(node, key)]):
            return ()
        try:
            facts = prepared_facts(Path(str(node.path)))
        except (UsageError, OSError, ValueError):  # refused with the other paths
            return ()
        for key in wanted:
            node[key] = facts[key]
        return tuple(f"data.{key}" for key in wanted)

    def _unresolved(self, broken: Mapping[str, str]) -> None:
        if self.mistakes:
            return  # what follows from another mistake is no news
        own = {key: reason for key, reason in broken.items() if key in self.command.settings}
        for key, reason in (own or broken).items():
            fix = f"{key}={as_typed(self.defaults.at(key))}"
            self._refuse(key, UsageError(f"{key} cannot be resolved", reason, fix))

    def unresolved(self) -> dict[str, Any]:
        """Give `raw` in plain containers."""
        tree: dict[str, Any] = OmegaConf.to_container(self.raw)  # type: ignore[assignment]
        return tree

    def derived(self) -> Iterator[str]:
        """List the settings that follow from others: interpolations, and facts read from the data."""
        yield from self.measured
        for key, value in leaves(self.unresolved()):
            if isinstance(value, str) and "${" in value:
                yield key


def plain(node: Any, broken: dict[str, str] | None = None, prefix: str = "") -> Any:
    """Resolve a config into plain containers; what cannot be resolved becomes `???` and is named in `broken`."""
    broken = {} if broken is None else broken
    if isinstance(node, ListConfig):
        return [_resolved(node, index, f"{prefix}{index}", broken) for index in range(len(node))]
    return {str(name): _resolved(node, name, f"{prefix}{name}", broken) for name in node}


def _resolved(node: Any, name: Any, key: str, broken: dict[str, str]) -> Any:
    if OmegaConf.is_missing(node, name):
        return MISSING
    try:
        value = node[name]
    except (OmegaConfBaseException, RecursionError, ValueError, TypeError) as error:
        if "Missing" not in type(error).__name__:
            broken[key] = next(iter(str(error).splitlines()), type(error).__name__)
        return MISSING
    return plain(value, broken, f"{key}.") if isinstance(value, DictConfig | ListConfig) else value


def _strays(config: DictConfig, default: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name in map(str, config):
        inner = config._get_node(name)
        if name not in default:
            yield f"{prefix}{name}"
        elif isinstance(inner, DictConfig) and isinstance(default[name], Mapping):
            yield from _strays(inner, default[name], f"{prefix}{name}.")


def _has(tree: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(tree, Mapping) or part not in tree:
            return False
        tree = tree[part]
    return True


def _unfit(setting: GivenSetting, error: Exception, defaults: Defaults) -> UsageError:
    return UsageError(
        what=f"{str(setting)[:120]} cannot be set",
        why=next(iter(str(error).splitlines()), type(error).__name__)[:160],
        fix=f"{setting.key}={as_typed(defaults.at(setting.key))}",
    )
