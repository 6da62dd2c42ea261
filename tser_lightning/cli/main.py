"""The command line. Nothing here imports torch before the command is known to be right."""

import argparse
import importlib.metadata
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from tser_lightning.atomic_io import first_process, refused
from tser_lightning.config.usage_errors import UsageErrors, nearest, three_lines
from tser_lightning.errors import BUSY, Busy, RunError, UsageError
from tser_lightning.termination import terminable

if TYPE_CHECKING:
    from tser_lightning.config.hydra_loader import Configs

OK, CRASH, MISTAKE, INTERRUPTED = 0, 1, 2, 130
INFO = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]


def main(argv: Sequence[str] | None = None, *, of_sweep: bool = False) -> int:
    """Run a command line.

    Args:
        argv: The arguments after the program's name; those of this process by default.
        of_sweep: Whether it is one job of a sweep, which its command may still name.

    Returns:
        The exit code: 0 done, 1 crash, 2 the user's mistake, 75 another process does the same, 130 Ctrl-C, 143 SIGTERM.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # the user's own modules
    with terminable():
        return guarded(lambda: _command(list(sys.argv[1:] if argv is None else argv), of_sweep))


def guarded(work: Callable[[], int]) -> int:
    """Run work and turn its exceptions into an exit code; mistakes of the user's are printed in three lines."""
    try:
        return work()
    except UsageErrors as error:
        print(*error.args, sep="\n", file=sys.stderr)
        return MISTAKE
    except UsageError as error:
        print(three_lines(error), file=sys.stderr)
        return MISTAKE
    except RunError as error:
        print(three_lines(error), file=sys.stderr)
        return BUSY if isinstance(error, Busy) else CRASH
    except KeyboardInterrupt:
        print("tser: interrupted; the same command, without force=true, goes on from here", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        return error.code if isinstance(error.code, int) else CRASH if error.code else OK
    except Exception as error:
        failure = refused(error) if isinstance(error, OSError) else None
        if failure is not None:
            print(three_lines(failure), file=sys.stderr)
            return CRASH
        traceback.print_exc()
        return CRASH


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        flags = [flag for action in self._actions for flag in action.option_strings]
        unknown = message.rpartition(" ")[2]
        raise UsageError(message, f"the flags are {' '.join(flags)}", nearest(unknown, flags) or "--help")

    def refuse_settings_with_dashes(self, unknown: Sequence[str], argv: Sequence[str]) -> None:
        """Refuse settings that are written as flags (--lr 0.1), with the right form."""
        flag, equals, value = unknown[0].partition("=")
        flags = [known.lstrip("-") for known in self._option_string_actions]
        if nearest(flag.lstrip("-"), flags) or not flag.startswith("--"):
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        after = argv[argv.index(unknown[0]) + 1 :]
        value = value if equals or not after or after[0].startswith("-") or "=" in after[0] else after[0]
        typed = f"{flag.lstrip('-').replace('-', '_')}={value or '...'}"
        raise UsageError(f"{flag} is not a flag", "a setting is written name=value, without dashes", _known(typed))


def _known(override: str) -> str:
    """Give an override under the name that its setting has: optim.lr=0.1 for lr=0.1."""
    from tser_lightning.config.run import compose_run

    try:
        compose_run([override])
    except UsageError as error:
        if error.what.startswith(override.partition("=")[0]):
            return error.fix
    return override


def _parser() -> _Parser:
    parser = _Parser(prog="tser", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--package", "-p")
    parser.add_argument("--info", "-i", nargs="?", const="all", choices=INFO)
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    return parser


def _command(argv: list[str], of_sweep: bool) -> int:
    parser = _parser()
    options, unknown = parser.parse_known_intermixed_args(argv)
    if unknown:
        parser.refuse_settings_with_dashes(unknown, argv)
    if options.version:
        print(f"tser_lightning {importlib.metadata.version('tser-lightning')}")
        return OK
    from tser_lightning.config.hydra_loader import Configs

    configs = Configs(options.config_dir)
    if options.multirun and options.cfg:
        raise UsageError(
            what="-m and --cfg do not go together",
            why="every job of a sweep has a config of its own; --cfg shows that of one command",
            fix=f"--cfg {options.cfg} with one value for each setting, without -m",
        )
    if options.help or options.cfg or options.info or options.shell_completion:
        return _show(options, configs)
    if options.resolve or options.package:
        raise UsageError(
            "--resolve and --package do nothing alone", "they shape what --cfg shows", "--cfg job --resolve"
        )
    if options.multirun:
        from tser_lightning.sweep.multirun import multirun

        return multirun(options.overrides, configs)
    return _run(options.overrides, configs, of_sweep)


def _show(options: argparse.Namespace, configs: "Configs") -> int:
    from tser_lightning.cli.help import help_text, settings_text
    from tser_lightning.cli.show import complete, config_text, show_info

    if options.help:
        print(settings_text(options.overrides, configs) if options.overrides else help_text(configs))
    elif options.cfg:
        print(config_text(options.overrides, configs, options.cfg, options.package, options.resolve), end="")
    elif options.info:
        show_info(options.info, options.overrides, configs)
    else:
        complete(options.overrides, configs)
    return OK


def _run(overrides: Sequence[str], configs: "Configs", of_sweep: bool) -> int:
    from tser_lightning.config.run import compose_run

    run = compose_run(overrides, configs=configs)
    if not of_sweep and any(text.startswith("sweep=") for text in overrides) and run.choices["sweep"] != "none":
        raise UsageError(
            what=f"sweep={run.choices['sweep']} gives settings several values, and this is one run",
            why="several values are several runs, which -m starts one after the other",
            fix=f"-m sweep={run.choices['sweep']}",
        )
    if not first_process():  # one that Lightning started to train along; the first one speaks
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of this process
    for note in run.notes:
        print(f"tser: {note}", file=sys.stderr)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("tser_lightning").setLevel(logging.INFO if first_process() else logging.ERROR)
    from tser_lightning.tasks.run_task import run_task

    run_task(run)
    return OK
