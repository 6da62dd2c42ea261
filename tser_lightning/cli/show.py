"""Flags that show and do not run: --cfg, --info, --shell-completion."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tser_lightning.config.composed import Composed
from tser_lightning.config.hydra_loader import PRIMARY, Configs, with_hydra
from tser_lightning.config.usage_errors import refuse
from tser_lightning.errors import UsageError


def config_text(overrides: Sequence[str], configs: Configs, kind: str, package: str | None, resolve: bool) -> str:
    """Write the config of a command as YAML.

    Args:
        overrides: As on the command line.
        configs: The config files to choose from.
        kind: "job" (the run's own), "hydra" or "all".
        package: A dotted name, for a part of it.
        resolve: Whether interpolations are filled in.

    Raises:
        UsageErrors: All that is wrong with the command.
        UsageError: No such part.
    """
    composed = Composed(overrides, configs)
    refuse(composed.mistakes)
    whole = OmegaConf.create(composed.config if resolve else composed.unresolved())
    whole.hydra = configs.compose(list(composed.command.choices.values())).hydra
    parts = {"job": set(whole) - {"hydra"}, "hydra": {"hydra"}, "all": set(whole)}[kind]
    keys = [str(key) for key in whole if key in parts]
    if package in (None, "_global_"):
        return OmegaConf.to_yaml(OmegaConf.masked_copy(whole, keys))
    found = _part(whole, str(package))
    if found is None:
        raise UsageError(
            what=f"--package {package}: there is no such part of the config",
            why=f"it has {', '.join(map(str, keys))}",
            fix="--package loss",
        )
    return OmegaConf.to_yaml(found) if OmegaConf.is_config(found) else f"{found}\n"


def _part(config: DictConfig, key: str) -> Any:
    """Give a part of a config as it is written: a value may be an interpolation."""
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    inner = node._get_node(last) if isinstance(node, DictConfig) else None
    return inner if OmegaConf.is_config(inner) or inner is None else inner._value()


def show_info(what: str, overrides: Sequence[str], configs: Configs) -> None:
    """Print what Hydra composes the config from."""
    with_hydra(configs, lambda hydra: hydra.show_info(what, config_name=PRIMARY, overrides=list(overrides)))


def complete(overrides: Sequence[str], configs: Configs) -> None:
    """Answer the shell's question for completions, or print the code that makes it ask."""
    with_hydra(configs, lambda hydra: hydra.shell_completion(config_name=PRIMARY, overrides=list(overrides)))
