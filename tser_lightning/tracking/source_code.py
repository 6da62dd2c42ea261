"""Which code of the user's own a run depends on: hashes of its source, so that an edited file is noticed."""

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path


def own_module(top: str) -> Path | None:
    """Find the file or folder of a module that is neither Python's nor installed nor ours; None for those.

    Args:
        top: A module's name without dots.
    """
    if top in sys.stdlib_module_names or top in sys.builtin_module_names or top == "tser_lightning":
        return None
    try:
        found = importlib.util.find_spec(top)
    except (ValueError, ImportError):
        return None
    places = [*(found.submodule_search_locations or ()), found.origin] if found else []
    there = [Path(place).resolve() for place in places if place and Path(place).exists()]
    return None if not there or any(map(_installed, there)) else there[0]


def _installed(place: Path) -> bool:
    """Whether a file lies where an installer or Python itself has put it, in this environment or another one."""
    standard = Path(sysconfig.get_path("stdlib")).resolve()
    return place.is_relative_to(standard) or not {"site-packages", "dist-packages"}.isdisjoint(place.parts)


def code_hashes(targets: Iterable[str]) -> dict[str, str]:
    """Hash the source of the user's own modules, each with those of its own that it imports.

    Args:
        targets: Dotted paths, e.g. ["my_losses.Mine", "torch.optim.SGD"].

    Returns:
        E.g. {"code of my_losses": SHA-256}; nothing for installed packages.
    """
    tops = sorted({target.partition(".")[0] for target in targets})
    return {f"code of {top}": _hash(top) for top in tops if own_module(top) is not None}


def _hash(top: str) -> str:
    digest = hashlib.sha256()
    left, seen = [top], set[str]()
    while left:
        name = left.pop()
        place = own_module(name) if name not in seen else None
        seen.add(name)
        if place is None:
            continue
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            source = file.read_bytes()
            digest.update(f"{file.name} ".encode() + source)
            left += sorted(_imported(source))
    return digest.hexdigest()


def _imported(source: bytes) -> Iterator[str]:
    """The top names of what a file imports; none of one that is no Python, which says so when it is imported."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0]
