"""The help texts, made from the config files and from the declarations of settings."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import compose_run
from tser_lightning.config.site import site_file
from tser_lightning.config.usage_errors import as_typed, nearest
from tser_lightning.errors import UsageError
from tser_lightning.schema.setting import declared

EXAMPLES = """
  tser                                                      digits, TSER, two CPU cores, half a minute
  tser experiment=digits loss=vanilla_kd seed=2             another loss, another seed
  tser -m experiment=digits loss=ce,vanilla_kd,tser seed=1,2,3      nine runs, one process each
  tser task=evaluate run=runs/NAME student.timesteps=8      measure a finished run at another T
  tser experiment=cifar100_r18_t2 --cfg job                 show every setting of a run without running it
"""

FLAGS = """
  -m, --multirun        one run for every combination of values with commas
  -c, --cfg job         show the config (--resolve: with every value filled in; -p loss: a part of it)
  --config-dir DIR      config groups of your own, e.g. DIR/loss/mine.yaml for loss=mine
  -i, --info [WHAT]     what Hydra composes the config from: defaults, searchpath, plugins ...
  -sc install=bash      tab completion for `tser`: eval "$(tser -sc install=bash)"
  --version, -h, --help
"""


def help_text(configs: Configs) -> str:
    """Write what the program is, its tasks, groups, experiments, flags and five commands."""
    defaults = configs.compose(["experiment=none"]).choices
    groups = [group for group in configs.groups() if group not in ("task", "experiment")]
    return "\n".join(
        [
            f"tser_lightning {version('tser-lightning')}: distil a frozen ANN teacher into a spiking student.",
            "",
            "  tser [group=option ...] [setting=value ...] [flags]      or: python -m tser_lightning ...",
            "",
            "Tasks",
            *(_line("task", name, configs) for name in configs.options("task")),
            "",
            "Experiments: a set of choices and settings, from experiments/ here and in your folder",
            *(_line("experiment", name, configs) for name in configs.options("experiment")),
            "",
            "Groups: one option each (* is the default)",
            *(_options(group, defaults.get(group), configs) for group in groups),
            "",
            "Settings: e.g. loss.lam=0.1 student.timesteps=2 trainer.epochs=100; `tser --help loss=tser trainer`",
            "explains those of an option and of a group",
            "",
            f"This site's defaults of machine and logging: {site_file()} (TSER_CONFIG_DIR names another folder)",
            "",
            "Examples",
            EXAMPLES.strip("\n"),
            "",
            "Flags",
            FLAGS.strip("\n"),
        ]
    )


def _line(group: str, name: str, configs: Configs) -> str:
    about = textwrap.shorten(_first_comment(configs.text(group, name)), 84, placeholder=" ...")
    return f"  {f'{group}={name}':<30} {about}"


def _first_comment(text: str) -> str:
    said = (line.lstrip("# ") for line in text.splitlines() if line.startswith("#") and "@package" not in line)
    return next(said, "")


def _options(group: str, default: str | None, configs: Configs) -> str:
    names = [f"{name}*" if name == default else name for name in configs.options(group)]
    return textwrap.fill(", ".join(names), 114, initial_indent=f"  {group:<12}", subsequent_indent=" " * 14)


def settings_text(words: Sequence[str], configs: Configs) -> str:
    """Explain the settings of groups and of their options.

    Args:
        words: Groups and choices, e.g. ["loss=tser", "machine"].
        configs: The config files to choose from.

    Raises:
        UsageErrors: No such group or option.
    """
    run = compose_run(["experiment=none", *(word for word in words if "=" in word)], check_data=False, configs=configs)
    places = dict.fromkeys(place for word in words for place in _places(word, configs))
    known = [place for place in places if place in run.config]
    unknown = [place for place in places if place not in run.config]
    if unknown:
        raise not_a_group(unknown[0], run.config)
    return "\n".join(line for place in known for line in _explained(place, run.config))


def _places(word: str, configs: Configs) -> list[str]:
    """List the parts of a config that a word after --help stands for: a group, or the groups of a task."""
    group, _, option = word.partition("=")
    return list(configs.values("task", option)) if group == "task" and option else [group.partition(".")[0]]


def not_a_group(word: str, config: Mapping[str, Any]) -> UsageError:
    """Make the `UsageError` for a word after --help that is no group or option."""
    return UsageError(
        what=f"--help {word}: there is no such group of settings",
        why=f"there are {', '.join(config)}",
        fix=f"--help {nearest(word, config) or 'loss'}",
    )


def _explained(place: str, config: Mapping[str, Any]) -> Iterator[str]:
    part = {place: config[place]}
    for key, setting, value in declared(config, place) if isinstance(config[place], Mapping) else declared(part):
        yield f"{key}={as_typed(value)}"
        yield textwrap.fill(
            f"{setting.meaning} ({setting.wanted})", 114, initial_indent="    ", subsequent_indent="    "
        )
