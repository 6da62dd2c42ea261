"""Hashes of the user's own modules that a run depends on, so that an edited file is noticed."""

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


def own_names(module: str) -> set[str] | None:
    """Read the names that a module of the user's own defines off its source; nothing is imported.

    Args:
        module: Dotted path, e.g. "my_losses".

    Returns:
        None where the source does not settle it: no module of the user's, a star import, `__getattr__`, no Python.
    """
    top, *inside = module.split(".")
    place = own_module(top)
    if place is None or (inside and not place.is_dir()):
        return None
    path = place.joinpath(*inside)
    file = next((each for each in (path / "__init__.py", path.with_suffix(".py")) if each.is_file()), None)
    try:
        tree = ast.parse(file.read_bytes()) if file else None
    except (SyntaxError, ValueError, OSError):
        return None
    names = set[str]()
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    below = {each.stem for each in path.glob("*") if each.is_dir() or each.suffix == ".py"}
    return None if not tree or {"*", "__getattr__"} & names or "globals" in ast.dump(tree) else names | below


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
    """List the top-level packages that a file imports; none for a file that cannot be parsed."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0]
