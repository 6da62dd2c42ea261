"""What a command would do, without doing it: --cfg, --info, --shell-completion."""

from collections.abc import Callable, Sequence
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tser_lightning.cli.composed import Composed
from tser_lightning.cli.config import PRIMARY, Configs
from tser_lightning.cli.mistakes import refuse
from tser_lightning.mistake import Mistake


def config_text(overrides: Sequence[str], configs: Configs, kind: str, package: str | None, resolve: bool) -> str:
    """Write the config of a command as YAML.

    Args:
        overrides: As on the command line.
        configs: The config files to choose from.
        kind: "job" (the run's own), "hydra" or "all".
        package: A dotted name, for a part of it.
        resolve: Whether interpolations are filled in.

    Raises:
        Mistakes: All that is wrong with the command.
        Mistake: No such part.
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
        raise Mistake(
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


def with_hydra(configs: Configs, work: Callable[[Hydra], Any]) -> Any:
    """Let Hydra itself do something with our config files.

    Raises:
        Mistake: What Hydra refuses.
    """
    GlobalHydra.instance().clear()
    try:
        return work(Hydra.create_main_hydra2("tser", configs.search_path()))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if isinstance(error, Mistake):
            raise
        said = " ".join(str(error).split())[:240]
        raise Mistake("Hydra refuses this command", said, "--help, or --info searchpath") from error
    finally:
        GlobalHydra.instance().clear()


def show_info(what: str, overrides: Sequence[str], configs: Configs) -> None:
    """Print what Hydra composes the config from."""
    with_hydra(configs, lambda hydra: hydra.show_info(what, config_name=PRIMARY, overrides=list(overrides)))


def complete(overrides: Sequence[str], configs: Configs) -> None:
    """Answer the shell's question for completions, or print the code that makes it ask."""
    with_hydra(configs, lambda hydra: hydra.shell_completion(config_name=PRIMARY, overrides=list(overrides)))
