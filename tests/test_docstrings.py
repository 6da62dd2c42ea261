"""docs/api.md shows every public name; each has an example, says what it takes and gives, and all examples run."""

import ast
import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tser_lightning
from tser_lightning import data, losses, measure, models, neurons, training
from tser_lightning.models.attention import parts_with
from tser_lightning.models.network import Architecture
from tser_lightning.registry import trust

PACKAGE = Path(tser_lightning.__file__).parent
PAGE = Path(__file__).parent.parent / "docs" / "api.md"
NAMES = re.findall(r"^::: (\S+)$", PAGE.read_text(), re.MULTILINE)


def object_at(name: str) -> Any:
    """What a dotted name leads to: the longest part of it that is a module, then its attributes."""
    places = name.split(".")
    for depth in range(len(places), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(places[:depth]))
        except ModuleNotFoundError:
            continue
        for place in places[depth:]:
            found = getattr(found, place)
        return found
    raise ModuleNotFoundError(name)


def shown() -> Iterator[tuple[str, Any]]:
    """What the page shows by name; of a module, its public functions and classes."""
    for name in NAMES:
        found = object_at(name)
        if not isinstance(found, ModuleType):
            yield name, found
            continue
        for member, value in vars(found).items():
            if not member.startswith("_") and getattr(value, "__module__", None) == name:
                yield f"{name}.{member}", value


SHOWN = {name: each for name, each in shown() if inspect.isfunction(each) or inspect.isclass(each)}


def arguments(doc: str) -> set[str]:
    """The names that the sections Args and Attributes of a docstring explain."""
    sections = re.findall(r"^(?:Args|Attributes):\n((?:    .*\n|\n)+)", f"{doc}\n", re.MULTILINE)
    return {name for text in sections for name in re.findall(r"^    \**(\w+): +\S", text, re.MULTILINE)}


def taken(found: Any) -> set[str]:
    """The names of the arguments of a function, or of a class that has a constructor of its own or of a base here."""
    if inspect.isclass(found):
        fields = getattr(found, "_fields", None)
        if fields is not None:
            return set(fields)
        home = next(base for base in found.__mro__ if "__init__" in vars(base))
        if not home.__module__.startswith("tser_lightning") or getattr(found, "_is_protocol", False):
            return set()
    return set(inspect.signature(found).parameters)


def explained(found: Any) -> set[str]:
    if inspect.isclass(found):
        bases = [base for base in found.__mro__ if base.__module__.startswith("tser_lightning")]
        return set().union(*(arguments(inspect.cleandoc(base.__doc__ or "")) for base in bases))
    docs = [found.__doc__]
    if hasattr(found, "__wrapped__"):  # an architecture: what all of them take is said once
        docs += [Architecture.__call__.__doc__, parts_with.__doc__]
    return set().union(*(arguments(inspect.cleandoc(doc)) for doc in docs))


def test_the_page_shows_every_exported_name() -> None:
    modules = [found for found in map(object_at, NAMES) if isinstance(found, ModuleType)]
    on_page = {id(found) for _, found in shown()} | {id(each) for module in modules for each in vars(module).values()}
    exported = {room: room.__all__ for room in (tser_lightning, losses, neurons, models, training, measure)}
    exported[data] = list(data._MODULES)
    every = [(room, name) for room, names in exported.items() for name in names]
    assert not [f"{room.__name__}.{name}" for room, name in every if id(getattr(room, name)) not in on_page]


@pytest.mark.parametrize("name", SHOWN)
def test_a_public_name_has_an_example_and_explains_what_it_takes_and_gives(name: str) -> None:
    found = SHOWN[name]
    doc = inspect.cleandoc(found.__doc__ or "")
    assert "Examples:\n    >>> " in doc
    assert not taken(found) - explained(found)
    if inspect.isfunction(found) and found.__annotations__["return"] is not None:
        assert "\n\nReturns:\n" in doc


def examples() -> Iterator[doctest.DocTest]:
    """The examples of all docstrings of the package; each knows its own name alone and imports the rest."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if ">>> " not in (text := file.read_text()):
            continue
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        module = importlib.import_module(".".join(part for part in parts if part != "__init__"))
        for node, top in _documented(ast.parse(text)):
            if ">>> " in (doc := ast.get_docstring(node) or ""):
                name = f"{module.__name__}.{top}:{getattr(node, 'name', '')}"
                yield doctest.DocTestParser().get_doctest(doc, {top: getattr(module, top)}, name, str(file), 0)


def _documented(tree: ast.Module) -> Iterator[tuple[ast.ClassDef | ast.FunctionDef, str]]:
    """Functions, classes and their methods, each with the name that it is found under in the module."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield from (
                (each, node.name) for each in ast.walk(node) if isinstance(each, ast.ClassDef | ast.FunctionDef)
            )


def test_all_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trust, "_added", set[str]())  # what an example trusts, no other test does
    runner, told = doctest.DocTestRunner(verbose=False), list[str]()
    for example in examples():
        runner.run(example, out=told.append)
    results = runner.summarize(verbose=False)
    assert not results.failed, "".join(told)
    assert results.attempted >= len(SHOWN)
