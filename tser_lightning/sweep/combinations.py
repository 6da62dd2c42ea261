"""The jobs of a sweep: every combination of the values that a command, or its conf/sweep, gives."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from tser_lightning.config.command import parse, refuse_folder_of_hydra, words
from tser_lightning.config.hydra_internal import BasicSweeper
from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.usage_errors import refuse
from tser_lightning.errors import UsageError


def for_hydra(overrides: Sequence[str], configs: Configs) -> list[str]:
    """Rewrite overrides for Hydra, which refuses a + before a setting that exists."""
    mistakes: list[UsageError] = []
    texts = []
    for text in words(overrides, mistakes):
        try:
            override = parse(text, configs)
            refuse_folder_of_hydra(override)
        except UsageError as mistake:
            mistakes.append(mistake)
            continue
        text = str(override.input_line)
        bare = text.lstrip("+")
        if bare == text or override.is_hydra_override():
            texts.append(text)
        else:
            texts.append(bare if configs.options(override.key_or_group) else f"++{bare}")
    refuse(mistakes)
    return texts


def jobs_of(overrides: Sequence[str], configs: Configs) -> list[list[str]]:
    """List the overrides of every job; for a sweeper that invents its own values, of the one job that it varies.

    Raises:
        UsageErrors: Overrides that do not follow Hydra's grammar.
    """
    texts = for_hydra(overrides, configs)
    parsed = [parse(text, configs) for text in texts]
    sweeper = hydra_settings(texts, configs)["sweeper"]
    own = [override for override in parsed if not override.is_hydra_override()]
    if not is_basic(sweeper):
        return [[str(override.input_line) for override in own if not override.is_sweep_override()]]
    params = [parse(f"{key}={value}", configs) for key, value in (sweeper.get("params") or {}).items()]
    try:
        return [list(job) for batch in BasicSweeper.split_arguments([*params, *own], None) for job in batch]
    except HydraException as error:
        raise UsageError("this sweep cannot be laid out", str(error), "key=1,2,3 or key='range(1,4)'") from error


def hydra_settings(texts: Sequence[str], configs: Configs) -> dict[str, Any]:
    """Compose Hydra's own settings of a command: "sweeper", "launcher" and the rest, not resolved.

    Raises:
        UsageError: A launcher or a sweeper that is not there, or a setting that it has not.
    """
    parsed = [parse(text, configs) for text in texts]
    fixed = [text for text, override in zip(texts, parsed, strict=True) if _chooses(override, configs)]
    with contextlib.suppress(HydraException, OmegaConfBaseException, yaml.YAMLError):
        return dict(configs.compose(fixed, sweep=True).hydra)
    # Something is wrong. If it is a setting of ours, the check of the jobs names it.
    own = [text for text, override in zip(texts, parsed, strict=True) if override.is_hydra_override()]
    try:
        return dict(configs.compose(own, sweep=True).hydra)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise UsageError(
            what=f"{' '.join(own)}: {next(iter(str(error).splitlines()), type(error).__name__)}",
            why="a setting of Hydra's, which has it not; most launchers are packages of their own",
            fix="pip install 'tser-lightning[slurm]' for joblib, submitit_local and submitit_slurm, or leave it out",
        ) from error


def is_basic(settings: Mapping[str, Any]) -> bool:
    """Tell whether a sweeper or launcher is Hydra's basic one, which our own takes the place of."""
    return str(settings.get("_target_", "")).rpartition(".")[2] in ("BasicSweeper", "BasicLauncher")


def _chooses(override: Override, configs: Configs) -> bool:
    of_group = override.is_hydra_override() or bool(configs.options(override.key_or_group))
    return of_group and not override.is_sweep_override()
