"""Which classes and functions a config may name: a config that was found somewhere must not run whatever it likes."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tser_lightning.errors import UsageError
from tser_lightning.records.source_code import own_module
from tser_lightning.registry.targets import MISSING, importable, targets
from tser_lightning.schema.setting import declared_targets

# Beside what schema/ declares, by name, each looked at: none of all of them imports by name, loads an object, or writes
# anywhere but in its own folder.
FURTHER = {
    "tser_lightning.losses": (
        "AttentionTransfer BlurredFeature CrossEntropy CurrentMean DistillationLoss Entropy ErrorAwareAlignment "
        "FeatureMSE HeadTailKL KLDivergence LogitMSE NoisyLogits NonTargetKD PiecewiseLinear ProgressiveSteps Relation "
        "RightSteps SaliencyMaps SoftCrossEntropy Standardised StepToStep TargetKD TemporalAlignment "
        "TransformedFeature WSLD"
    ),
    "tser_lightning.neurons": "PFA",
    "torch.nn": "Identity",
    "torch.optim": "ASGD Adadelta Adafactor Adagrad Adam Adamax NAdam RAdam RMSprop Rprop",
    "lightning.pytorch.callbacks": (
        "DeviceStatsMonitor EarlyStopping LearningRateMonitor ModelSummary RichModelSummary RichProgressBar "
        "StochasticWeightAveraging TQDMProgressBar Timer"
    ),
}
NAMES = declared_targets() | {f"{module}.{name}" for module, names in FURTHER.items() for name in names.split()}
LARGEST = 1 << 20  # of whole numbers in a config that was found beside weights: no width or count comes near
_added: set[str] = set()


def trust(*modules: str) -> None:
    """Let configs name what is defined in these modules and below them, for the rest of this process.

    A config makes objects by the names in it; a file that was found somewhere must not run whatever it likes.

    Args:
        *modules: Dotted names, e.g. "my_losses".

    Examples:
        >>> from tser_lightning.registry.trust import trusted
        >>> trusted("my_losses.LaterSteps")
        False
        >>> trust("my_losses")
        >>> trusted("my_losses.LaterSteps")
        True
    """
    _added.update(modules)


def named(given: Mapping[str, Any]) -> set[str]:
    """Find the modules of the user's own that a command names in a `_target_`: typed there, they are asked for.

    Installed packages and Python's own library are not the user's own: `trusted_modules` alone opens those.

    Args:
        given: The settings that the command itself gives, by dotted name.
    """
    asked = {value for key, value in given.items() if key.endswith("_target_") and isinstance(value, str)}
    return {top for top in (target.partition(".")[0] for target in asked) if own_module(top)}


def trusted(path: str, more: Collection[str] = ()) -> bool:
    """Tell whether a dotted path is on the list, or lies in a module that the command trusts."""
    return path in NAMES or _below(path, (*_added, *more))


def _below(path: str, modules: Collection[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in modules)


def check_trusted(target: str, made: Any) -> None:
    """Raise a `UsageError` if a path through a module that the command trusts led to what is defined elsewhere.

    E.g. `mine.system` after `from os import system`.
    """
    home = str(getattr(made, "__module__", None))
    if target in NAMES or _below(home, _added):
        return
    places = home.split(".")
    own_names = {".".join([*places[:depth], getattr(made, "__qualname__", "")]) for depth in range(1, len(places) + 1)}
    if not own_names & NAMES:  # what is on the list may be imported under another name
        raise untrusted(target, home)


def untrusted(target: str, home: str | None = None) -> UsageError:
    """Say that a config names something that is not trusted, and how to trust it."""
    module = home or target.rpartition(".")[0] or target
    return UsageError(
        what=f"{target} is not from a trusted module",
        why="a config may make the networks, losses, neurons, data sets and schedules of tser_lightning, and listed "
        "norms, optimisers and callbacks; other code runs only if the command itself says so",
        fix=f"trusted_modules=[{module}] added to the command (in Python: tser_lightning.trust({module!r})), "
        "if you know what it does",
    )


def untrusted_targets(config: Mapping[str, Any], given: Mapping[str, Any]) -> list[UsageError]:
    """Find what a command may not make.

    Args:
        config: Resolved, in plain containers.
        given: The settings that the command itself gives, by dotted name; only there may modules be trusted.
    """
    more = [*(config.get("trusted_modules") or []), *named(given)]
    if config.get("trusted_modules") and "trusted_modules" not in given:
        return [
            UsageError(
                what=f"a config file asks to trust {config['trusted_modules']}",
                why="a file could then run any program; what is trusted is said in the command",
                fix=f"trusted_modules=[{','.join(map(str, config['trusted_modules']))}], if you know what they do",
            )
        ]
    asked = (target for target in dict.fromkeys(targets(config)) if target != MISSING and importable(target))
    return [*(untrusted(target) for target in asked if not trusted(target, more)), *_not_plain(config)]


def check_received(config: Any, file: object) -> None:
    """Check a config that lies beside a run's weights, which somebody may have sent: the list, and plain values.

    Args:
        config: As it was read, from config.yaml or student.json.
        file: The file that it was read from.

    Raises:
        UsageError: It names what may not be made, holds what would still have to be resolved, or is no such config.
    """
    if not isinstance(config, Mapping):
        raise damaged(file, "it holds no settings by name")
    for target in targets(config):
        if not trusted(target):
            raise untrusted(target)
    for mistake in _not_plain(config):
        raise mistake
    for key, value in _values(config):
        if isinstance(value, int) and abs(value) > LARGEST and key.rpartition(".")[2] != "seed":
            raise damaged(file, f"{key} is {str(value)[:30]}, more than anything of a network can be")


def damaged(file: object, reason: str) -> UsageError:
    """Say that a file of a run directory is not what this program wrote."""
    return UsageError(
        f"{file} cannot be used: {reason}", "it is not as it was written", "a fresh copy of the run directory"
    )


def _not_plain(config: Mapping[str, Any]) -> Iterator[UsageError]:
    """Find what would be resolved or read as an instruction if anybody did: nothing here does."""
    for key, value in _values(config):
        before, target, after = key.partition("_target_")
        if target and (after or not isinstance(value, str | None)):
            yield UsageError(
                f"{before}{target} names no class", "it is not text", f"{before}{target}=my_module.MyClass"
            )
        elif any(part in TRICKS for part in key.split(".")):
            yield UsageError(
                what=f"{key} is not a setting",
                why="an object is made of _target_ and the settings beside it by their names, nothing else",
                fix="the settings by their names, as in the file of the option",
            )
        elif isinstance(value, str) and "${" in value:
            yield UsageError(
                what=f"{key} is the text {value[:80]!r}",
                why="what ${...} stands for is filled in once; a text that still holds one is never filled in again",
                fix=f"{key} with a plain value",
            )


TRICKS = ("_args_", "_partial_", "_recursive_", "_convert_")


def _values(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Walk all values of plain containers, lists included, with dotted names."""
    inner = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list | tuple) else None
    if not inner:
        yield key, node
    for name, value in inner or ():
        yield from _values(value, f"{key}.{name}" if key else str(name))
