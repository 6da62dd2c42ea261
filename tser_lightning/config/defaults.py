"""The settings that the config files of the chosen options define, with default values and meanings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tser_lightning.config.hydra_loader import Configs
from tser_lightning.schema.setting import Setting, setting, settings_of

AUGMENT = ("data.augment", "data.mixup")  # of the group augment, beside the settings of the data set


@dataclass(frozen=True)
class Defaults:
    """All settings of the chosen options, before experiment and command.

    Attributes:
        config: Resolved, in plain containers.
        choices: The option of every group, e.g. {"loss": "tser"}.
        configs: Where the files are.
    """

    config: Mapping[str, Any]
    choices: Mapping[str, str]
    configs: Configs

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The options of every group."""
        return {group: self.configs.options(group) for group in self.configs.groups()}

    @cached_property
    def keys(self) -> list[str]:
        """The dotted names of all settings."""
        return [key for key, _ in leaves(self.config)]

    def at(self, key: str) -> Any:
        """Give the default of a dotted name; None if there is none."""
        here: Any = self.config
        for part in key.split("."):
            here = here.get(part) if isinstance(here, Mapping) else None
        return here

    def place(self, key: str) -> str:
        """Name the option whose file defines a setting, e.g. "loss=tser"."""
        group = self._group(key)
        home = "task" if group in self.configs.values("task", self.choices["task"]) else group
        return f"{home}={self.choices[home]}" if home in self.choices else "conf/train.yaml"

    @staticmethod
    def _group(key: str) -> str:
        return "augment" if key.startswith(AUGMENT) else key.partition(".")[0]

    def about(self, key: str) -> str:
        """Give the meaning of a setting from its declaration; empty if there is none."""
        found = setting(self.config, key)
        return found.meaning if found else ""

    def elsewhere(self, key: str) -> dict[str, Setting | None]:
        """Find the options of a setting's group that have it, e.g. "tser" for "loss.lam", each with its declaration."""
        group, _, name = key.partition(".")
        found = {option: self.configs.values(group, option) for option in self.groups.get(group, ())}
        return {
            option: settings_of(group, values.get("_target_")).get(name)
            for option, values in found.items()
            if name in values
        }


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Walk a nested mapping: dotted names and values, empty mappings included."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{key}.")
        else:
            yield key, value
