"""Which classes and functions a config may name: a config that was found somewhere must not run whatever it likes."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tser_lightning.cli.check import importable
from tser_lightning.cli.defaults import MISSING
from tser_lightning.mistake import Mistake
from tser_lightning.tracking.source_code import own_module

PACKAGES = (
    *(f"tser_lightning.{room}" for room in ("models", "losses", "neurons", "data", "training.schedule")),
    *("torch.nn", "torch.optim", "torchvision.models", "torchvision.transforms", "lightning.pytorch.callbacks"),
)
# Among them, what writes wherever a config says.
REFUSED = tuple(f"lightning.pytorch.callbacks.{name}" for name in ("model_checkpoint", "on_exception_checkpoint"))
# Where functions make networks; elsewhere only classes are made.
FUNCTIONS = ("tser_lightning.models", "torchvision.models")
_added: set[str] = set()


def trust(*modules: str) -> None:
    """Let configs name what is defined in these modules and below them, for the rest of this process."""
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
    """Tell whether a dotted path lies in a trusted package."""
    return _below(path, (*_added, *more)) or (_below(path, PACKAGES) and not _below(path, REFUSED))


def _below(path: str, packages: Collection[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in packages)


def check_trusted(target: str, made: Any) -> None:
    """Raise a `Mistake` if what a path led to is defined elsewhere, or is nothing that a config needs.

    E.g. `torch.nn.functional.os.system`; a function that loads, imports or writes. Classes may be made (networks,
    losses, optimisers, data sets), functions in `FUNCTIONS` alone; in modules that the command trusts, all.
    """
    home = getattr(made, "__module__", None)
    if not (isinstance(home, str) and trusted(home)):
        raise untrusted(target, str(home))
    if not _below(home, _added) and not isinstance(made, type) and not _below(home, FUNCTIONS):
        raise untrusted(target)


def targets(node: Any) -> Iterator[str]:
    """Walk all `_target_` of a config, at any depth."""
    if isinstance(node, Mapping):
        if isinstance(target := node.get("_target_"), str):
            yield target
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from targets(value)


def untrusted(target: str, home: str | None = None) -> Mistake:
    """Say that a config names something that is not trusted, and how to trust it."""
    module = home or target.rpartition(".")[0] or target
    return Mistake(
        what=f"{target} is not from a trusted module",
        why="a config may make what is in tser_lightning, torch.nn, torch.optim, torchvision and most of Lightning's "
        "callbacks; other code runs only if the command itself says so",
        fix=f"trusted_modules=[{module}] added to the command (in Python: tser_lightning.trust({module!r})), "
        "if you know what it does",
    )


def untrusted_targets(config: Mapping[str, Any], given: Mapping[str, Any]) -> list[Mistake]:
    """Find what a command may not make.

    Args:
        config: Resolved, in plain containers.
        given: The settings that the command itself gives, by dotted name; only there may modules be trusted.
    """
    more = [*(config.get("trusted_modules") or []), *named(given)]
    if config.get("trusted_modules") and "trusted_modules" not in given:
        return [
            Mistake(
                what=f"a config file asks to trust {config['trusted_modules']}",
                why="a file could then run any program; what is trusted is said in the command",
                fix=f"trusted_modules=[{','.join(map(str, config['trusted_modules']))}], if you know what they do",
            )
        ]
    asked = (target for target in dict.fromkeys(targets(config)) if target != MISSING and importable(target))
    return [untrusted(target) for target in asked if not trusted(target, more)]
