"""The help text, made from the config files themselves."""

import textwrap
from importlib.metadata import version

from tser_lightning.config.hydra_loader import Configs

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
            "Settings: those of an option's file, e.g. loss.lam=0.1 student.timesteps=2 trainer.epochs=100",
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
