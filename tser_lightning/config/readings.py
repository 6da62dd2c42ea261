"""Guesses at what a refused value was meant to be."""

from collections.abc import Iterator, Mapping
from typing import Any

from tser_lightning.config.defaults import leaves
from tser_lightning.schema.setting import settings_of

TYPOGRAPHY = str.maketrans(
    {"\u2212": "-", "\u2013": "-", "\u2014": "-", "\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'"}
)
ON = ("true", "yes", "on")
OFF = ("false", "no", "off", "none", "null", "disabled")


def readings(value: Any) -> Iterator[Any]:
    """List other readings of a value: "true" in quotes, 4.0 for 4, 16 for [16], a typographic minus, "off" for null.

    Examples:
        >>> list(readings(4.0))
        [4, [4.0]]
    """
    if isinstance(value, str):
        text = value.translate(TYPOGRAPHY).strip("'\" ")
        yield True if text.lower() in ON else False if text.lower() in OFF else text.lower()
        for kind in (int, float):
            try:
                yield kind(text)
            except (ValueError, OverflowError):
                continue
    elif isinstance(value, float) and value.is_integer():
        yield int(value)
    elif type(value) is int and value in (0, 1):
        yield bool(value)
    elif isinstance(value, list) and len(value) == 1:
        yield value[0]
    if value is None or value is False or str(value).lower() in OFF:
        yield from (None, "disabled")
    if isinstance(value, str | int | float):
        yield [value]


def meant_inside(key: str, value: Any, node: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Find the setting inside a group of settings that was meant by a value for the whole group.

    Args:
        key: Dotted name of the group, e.g. "logging.wandb".
        value: What it was given, e.g. "offline", or False or None to switch it off.
        node: The group's defaults.

    Returns:
        A dotted name and a value that it takes, e.g. ("logging.wandb.mode", "offline"); None if there is none.
    """
    for name, _ in leaves(node, f"{key}."):
        place, _, last = name.rpartition(".")
        known = settings_of(place).get(last)
        if known is not None and known.names:
            meant = next((other for other in readings(value) if other is not None and known.takes(other)), None)
            if meant is not None:
                return name, meant
    return None
