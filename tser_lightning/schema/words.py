"""A type in words, from its JSON schema."""

from collections.abc import Mapping
from typing import Any


def in_words(schema: Mapping[str, Any]) -> str:
    """Say what values a JSON schema takes, to follow "is not": "a whole number from 1 or auto"."""
    choices = schema.get("anyOf")
    if choices is None:
        return _one(schema)
    said = [_one(choice) for choice in choices if not _is_name(choice)]
    names = [name for choice in choices if _is_name(choice) for name in _names(choice)]
    if names and not said:
        return "one of " + ", ".join(names)
    return " or ".join([*said, *names])


def choices(schema: Mapping[str, Any]) -> list[str]:
    """List the names that a JSON schema takes if it takes nothing else, "null" among them."""
    parts = schema.get("anyOf", [schema])
    return [name for part in parts for name in _names(part)] if all(map(_is_name, parts)) else []


def _is_name(schema: Mapping[str, Any]) -> bool:
    return "enum" in schema or "const" in schema or schema.get("type") == "null"


def _names(schema: Mapping[str, Any]) -> list[str]:
    if schema.get("type") == "null":
        return ["null"]
    return [str(name) for name in schema.get("enum", [schema.get("const")])]


def _one(schema: Mapping[str, Any]) -> str:
    if _is_name(schema):
        return "one of " + ", ".join(_names(schema))
    kind = schema.get("type")
    if kind == "array":
        items, size = in_words(schema.get("items", {})), schema.get("maxItems")
        return f"a list [...], {'each item' if size is None else f'each of its {size} items'} {items}"
    if kind in ("number", "integer"):
        return " ".join(part for part in (_NUMBERS[kind], *_bounds(schema)) if part)
    words = {"boolean": "true or false", "string": "text", "object": "a group of settings"}
    return words.get(str(kind), "a finite number")


_NUMBERS = {"number": "a number", "integer": "a whole number"}


def _bounds(schema: Mapping[str, Any]) -> list[str]:
    words = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "to"}
    return [f"{word} {schema[bound]:.10g}" for bound, word in words.items() if bound in schema]
