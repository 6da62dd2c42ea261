"""YAML that somebody may have sent, measured before it is expanded: few lines can stand for any number of values."""

import io
from typing import Any

import yaml

BYTES, NODES, DEPTH = 1 << 18, 5_000, 40
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(text: str, name: str = "<text>") -> Any:
    """Read YAML of a sane size as plain values.

    Args:
        text: What a file holds.
        name: That of the file, for what the parser says.

    Raises:
        ValueError: It is too large or nested too deep, aliases counted.
        yaml.YAMLError: It is no YAML.
    """
    if len(text) > BYTES:
        raise ValueError(f"it has {len(text)} characters, and {BYTES} are the most")
    if reason := _too_much(_Named(text, name)):
        raise ValueError(reason)
    return yaml.load(text, _Loader)


class _Named(io.StringIO):
    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.name = name


def _too_much(text: io.StringIO) -> str | None:
    """Tell why a text is too much, from the parser's events alone: nothing is expanded."""
    open_nodes: list[tuple[str | None, int]] = []  # anchor, nodes before
    sizes: dict[str, int] = {}
    nodes = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, nodes))
            nodes += 1
            if len(open_nodes) > DEPTH:
                return f"it is nested more than {DEPTH} deep"
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in open_nodes):
                return f"*{event.anchor} refers to itself"
            nodes += sizes.get(str(event.anchor), 1)
        if nodes > NODES:
            return f"its aliases stand for more than {NODES} values"
    return None
