"""Parse a command by Hydra's grammar: chosen options, settings, and every mistake in it."""

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.readings import OFF, TYPOGRAPHY, meant_inside
from tser_lightning.config.usage_errors import as_typed, nearest
from tser_lightning.errors import UsageError
from tser_lightning.schema.setting import takes_a_list

# Settings whose value is a path, which may hold any character.
PATHS = (
    "data.path",
    "data.root",
    "machine.runs_dir",
    "report.dir",
    "run",
    "teacher.weights",
    "student.weights",
    "input",
    "output",
)


@dataclass(frozen=True)
class GivenSetting:
    """An override of the command: a setting and its value.

    Attributes:
        key: Dotted name, e.g. "loss.lam".
        value: A plain Python value.
        added: Whether it came with Hydra's `+`.
    """

    key: str
    value: Any
    added: bool = False

    def __str__(self) -> str:
        return f"{self.key}={as_typed(self.value)}"


@dataclass
class Command:
    """A parsed command; of two overrides of the same setting the later one holds.

    Attributes:
        choices: For each group (e.g. "loss") the override that chooses its option (e.g. "loss=ce").
        settings: By dotted name.
        mistakes: What could not be understood.
    """

    choices: dict[str, str] = field(default_factory=dict)
    settings: dict[str, GivenSetting] = field(default_factory=dict)
    mistakes: list[UsageError] = field(default_factory=list)


def parse_command(overrides: Iterable[str], configs: Configs) -> Command:
    """Parse overrides; mistakes are collected, not raised."""
    command = Command()
    for text in words(overrides, command.mistakes):
        try:
            _put(parse(text, configs), text, command, configs)
        except UsageError as mistake:
            command.mistakes.append(mistake)
    return command


def words(overrides: Iterable[str], mistakes: list[UsageError]) -> list[str]:
    """Find overrides that spaces have split (`seed=1, 2` or `loss = tser`), and collect them as mistakes."""
    whole: list[str] = []
    torn: list[str] = []
    for text in overrides:
        starts = bool(torn) and (text.startswith((",", "=")) or torn[-1].endswith((",", "=")))
        key, _, value = torn[0].partition("=") if torn else ("", "", "")
        path = key in PATHS and "=" not in text and not os.path.exists(os.path.expanduser(value))
        if path or (starts and (text == "=" or "=" not in text.lstrip("="))):
            torn.append(text)
            continue
        _close(torn, whole, mistakes)
        torn = [text]
    _close(torn, whole, mistakes)
    return whole


def _close(torn: list[str], whole: list[str], mistakes: list[UsageError]) -> None:
    if len(torn) < 2:
        whole += torn
        return
    joined = "".join(torn)
    if torn[0].partition("=")[0] in PATHS and not torn[0].endswith("="):
        joined = _in_shell(" ".join(torn))
    mistakes.append(
        UsageError(
            what=f"{' '.join(torn)!r} is torn apart by spaces",
            why="the shell hands over each word by itself",
            fix=f"-m {joined}" if "," in joined and not set(joined) & set("[\"'") else joined,
        )
    )


def parse(text: str, configs: Configs) -> Override:
    """Parse one override.

    Raises:
        UsageError: It does not follow Hydra's grammar.
    """
    if "=" not in text and not text.startswith("~"):
        raise _no_assignment(text, configs)
    if text.lstrip("+~").startswith("="):
        raise UsageError(
            what=f"{text!r} names no setting",
            why="a setting stands before the sign, a value behind it, without spaces",
            fix="loss=tser, or seed=1",
        )
    if found := re.fullmatch(r"([\w.]+)=(-?\d+)\.\.(-?\d+)", text):
        key, first, last = found.groups()
        raise UsageError(
            what=f"{text!r} is no range",
            why="Hydra writes the numbers of a sweep as range(FIRST,END), without END itself",
            fix=f"-m '{key}=range({first},{int(last) + 1})'",
        )
    try:
        return OverridesParser.create().parse_override(_as_meant(text, configs))
    except HydraException as error:
        raise _ungrammatical(text, str(error)) from error
    except RecursionError as error:
        raise _ungrammatical(text, "too many brackets inside each other") from error


def _as_meant(text: str, configs: Configs) -> str:
    """Quote paths and names of options that Hydra's grammar would read as something else."""
    key, _, value = text.partition("=")
    name = key.lstrip("+")
    option = value in configs.options(name.partition("@")[0])
    if not value or value[0] in "'\"" or not (option or name in PATHS):
        return text
    try:
        override = OverridesParser.create().parse_override(text)
        if override.is_sweep_override():
            plain = not (option or os.path.exists(os.path.expanduser(value)))
        else:
            plain = override.value() == value if option else not isinstance(override.value(), int | float)
    except HydraException:
        plain = "," in value and not (option or os.path.exists(os.path.expanduser(value)))  # it may be several
    return text if plain else f"{key}={quoted(value)}"


def quoted(text: str) -> str:
    """Write text so that Hydra reads it as it is."""
    return "'" + re.sub(r"(\\*)'", r"\1\1\'", re.sub(r"(\\+)$", r"\1\1", text)) + "'"


def _in_shell(text: str) -> str:
    return shlex.quote(text) if set(text) & set('"$`\\!') else f'"{text}"'


def chosen(key: str, option: str) -> str:
    """Write the override that chooses an option of a group."""
    plain = re.fullmatch(r"[A-Za-z_]\w*", option, re.ASCII) and option.lower() not in (
        "null",
        "true",
        "false",
        "nan",
        "inf",
    )
    return f"{key}={option if plain else quoted(option)}"


def _no_assignment(text: str, configs: Configs) -> UsageError:
    groups = configs.groups()
    if text in groups:
        fix = f"{text}={_example(configs.options(text))}"
    else:
        homes = [group for group in groups if text in configs.options(group)]
        value = configs.compose(whole=False).config.get(text) if text.isidentifier() else None
        fix = f"{homes[0]}={text}" if homes else "loss=tser seed=1, or --help"
        if isinstance(value, int | str):
            fix = f"{text}={as_typed(value)}"
    return UsageError(
        what=f"{text!r} is neither group=option nor setting=value",
        why="a command is made of those two and of flags such as --help and -m, with no spaces around =",
        fix=fix,
    )


def _ungrammatical(text: str, reason: str) -> UsageError:
    first = next((line for line in reason.splitlines() if line.strip()), "unreadable").partition(" expecting")[0]
    return UsageError(f"{text!r} cannot be read", f"it breaks Hydra's grammar: {first[:160]}", _readable(text))


def _readable(text: str) -> str:
    """Guess what an unreadable override means."""
    key, value = (part.strip() for part in text.partition("=")[::2])
    if key.lstrip("+") in PATHS and value[:1] not in ("'", '"'):
        return _in_shell(f"{key}={quoted(value)}")
    plain_key = ".".join(part for part in key.split(".") if part) or "loss"
    plain = value.translate(TYPOGRAPHY)
    bare = re.sub(r"""['"\[\](){}]""", "", plain).strip(", ")
    if plain_key != text.partition("=")[0] or plain != text.partition("=")[2]:
        return f"{plain_key}={plain}"
    if re.search(r",\s|\s,|,$", value) and "," in bare:
        return f"-m {key}={re.sub(r'[, ]+', ',', bare)}"
    if bare != value:
        return f"{key}={bare}"
    return f"\"{key}='{value}'\" (quotes inside quotes keep text as it is)"


# Where Hydra would put its own outputs.
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.output_subdir", "hydra.job.chdir")


def refuse_folder_of_hydra(override: Override) -> None:
    """Refuse a setting by which Hydra would choose the folder of its outputs.

    Raises:
        UsageError: It is one.
    """
    value = override.value()
    if override.key_or_group in FOLDERS:
        raise UsageError(
            what=f"{override.key_or_group} does nothing here",
            why="a run lies in a directory named by its content, so that the same command finds it again",
            fix=f"machine.runs_dir={value if isinstance(value, str) else 'DIR'}",
        )


def _put(override: Override, text: str, command: Command, configs: Configs) -> None:
    key = override.get_key_element().lstrip("+~")
    group, value = override.key_or_group, override.value()
    refuse_folder_of_hydra(override)
    if group == "hydra" or group.startswith(("hydra.", "hydra/")):
        command.choices[key] = text
        return
    options = configs.options(group)
    if override.is_delete():
        raise UsageError(
            what=f"~{key} takes a setting away",
            why="a run can only be done again if every setting has a value",
            fix=_switched_off(key, configs),
        )
    if override.is_sweep_override():
        raise _sweep(key, text)
    if options and not isinstance(value, dict):
        command.choices[key] = _choice(override, options, configs)
    else:
        command.settings[group] = GivenSetting(group, value, override.is_add() or override.is_force_add())


def _switched_off(key: str, configs: Configs) -> str:
    """Suggest the override that comes nearest to deleting a setting or a group, which is not possible."""
    default = OmegaConf.select(configs.compose(whole=False).config, key, default="VALUE", throw_on_missing=False)
    if "none" in (options := configs.options(key.partition("@")[0])):
        return f"{key}=none"
    if not isinstance(default, DictConfig):
        return f"{key}={as_typed(default)}"
    node = cast(dict[str, Any], OmegaConf.to_container(default))
    meant = meant_inside(key, None, node)
    if meant is not None:
        return f"{meant[0]}={meant[1]}"
    return f"{key}={_example(options)}" if options else f"{key}.{next(iter(node), 'NAME')}=VALUE"


def _sweep(key: str, text: str) -> UsageError:
    values = text.partition("=")[2]
    if takes_a_list(key.rpartition(".")[2]):
        return UsageError(f"{text} is not a list", "values with commas between them are a sweep", f"{key}=[{values}]")
    if key == "runs":
        return UsageError(f"{text} is not a list", "several globs stand in brackets", f"'{key}=[{values}]'")
    return UsageError(
        what=f"{text} gives {key} more than one value",
        why="one run has one value; several are several runs, which -m starts one after the other",
        fix=f"-m {shlex.quote(text)}",
    )


def _choice(override: Override, options: Sequence[str], configs: Configs) -> str:
    key, value = override.get_key_element().lstrip("+"), override.value()
    if not isinstance(value, str) or value not in options:
        raise unknown_option(key, as_typed(value), options, configs)
    return chosen(key, value)


def unknown_option(key: str, value: str, options: Sequence[str], configs: Configs) -> UsageError:
    """Say that a group has no such option."""
    group = key.partition("@")[0]
    close = nearest(value, options)
    homes = [other for other in configs.groups() if value in configs.options(other)]
    stem = Path(value).stem if value.endswith((".yaml", ".yml")) else value
    if misnamed := configs.misnamed(group, stem):
        fix = f"mv {shlex.quote(misnamed)} {shlex.quote(f'{misnamed[:-4]}.yaml')}"
    elif stem in options:
        fix = shlex.quote(f"{key}={stem}")
    elif "." in value and "custom" in options:
        fix = f"{group}=custom {group}._target_={value}"
    elif "none" in options and value.lower() in ("", *OFF):
        fix = f"{key}=none"
    elif close is None and homes and value.lower() not in OFF:
        fix = f"{homes[0]}={value}"
    else:
        fix = f"{key}={close or _example(options)}"
    own = f"{group}=custom {group}._target_=my_module.MyClass" if "custom" in options else ""
    home = "experiments/ has" if group == "experiment" else "there are"
    if own and close is None and fix == f"{key}={_example(options)}":
        fix = f"{fix}, or one of your own: {own}"
    return UsageError(
        what=f"{key}={value}: there is no {group} of that name",
        why=f"{home} {', '.join(options)}" + (f"; one of your own is {own}" if own else ""),
        fix=fix,
    )


def _example(options: Sequence[str]) -> str:
    preferred = ("tser", "lif", "resnet18", "digits", "distill")
    return next((name for name in preferred if name in options), options[0] if options else "NAME")
