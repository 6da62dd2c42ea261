"""The `_target_` of a config: a dotted path to the class or function that makes an object. Nothing is imported here."""

import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

MISSING = "???"  # OmegaConf's mark of a setting that must be given
OURS = ("tser_lightning", "torch", "torchvision", "lightning")


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


def is_foreign(node: Any, default: Any) -> bool:
    """Tell whether a node makes an object of the user's own class; no file of ours names its settings."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        return False
    target = node["_target_"]
    known = default.get("_target_") if isinstance(default, Mapping) else None
    return isinstance(target, str) and (target != known or target.partition(".")[0] not in OURS)


def importable(target: str) -> bool:
    """Tell whether the top package of a dotted path is there; nothing is imported."""
    top, dot, _ = target.partition(".")
    if target == MISSING or top in OURS:
        return True
    try:
        return bool(dot) and importlib.util.find_spec(top) is not None
    except (ValueError, ImportError):
        return False
