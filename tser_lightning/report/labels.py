"""What rows and columns of a comparison are called, and in which order they stand."""

from dataclasses import dataclass
from typing import Any

LOSSES = ("ce", "tet", "vanilla_kd", "kdsnn", "lasnn", "bkdsnn", "ts_ce", "ts_kl", "ts", "vanilla_kd_er", "tser")

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Label:
    """What a row or a column stands for.

    Attributes:
        keys: Names of the settings that tell it from its neighbours, e.g. ("loss", "loss.lam").
        values: Their values, None where a setting does not exist.
    """

    keys: tuple[str, ...]
    values: Key

    def get(self, key: str) -> Any:
        """Give the value of a setting; None if it is not one of those that matter here."""
        return dict(zip(self.keys, self.values, strict=True)).get(key)

    @property
    def parts(self) -> list[str]:
        """Say it in words: ["tser", "lam=0.1"], or ["digits", "resnet_small", "T=4"]."""
        return [word for key, value in zip(self.keys, self.values, strict=True) if (word := word_for(key, value))]

    def __str__(self) -> str:
        return " ".join(self.parts)


def word_for(key: str, value: Any) -> str:
    """Say a setting in a word: "lam=0.1", "T=4", "norm=TEBN"; empty for None."""
    if value is None:
        return ""
    if key in ("loss", "data", "student"):
        return str(value)
    if key == "student.timesteps":
        return f"T={value}"
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_')}={str(value).rpartition('.')[2]}"
    short = key.removeprefix("loss.") if key.startswith("loss.") else key
    return f"{short}={str(value).lower() if isinstance(value, bool) else value}"


def in_usual_order(values: Key) -> list[tuple[int, float, str]]:
    """Give what labels are sorted by: losses as in `LOSSES`, numbers by size, the rest by name."""

    def rank(value: Any) -> tuple[int, float, str]:
        if value in LOSSES:
            return (0, LOSSES.index(value), "")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return (1, float(value), "") if is_number else (2, 0.0, str(value or ""))

    return [rank(value) for value in values]
