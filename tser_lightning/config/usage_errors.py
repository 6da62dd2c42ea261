"""Several mistakes in one error, and their form on the screen."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from tser_lightning.errors import RunError, UsageError


class UsageErrors(UsageError):
    """All mistakes of one command in one error.

    Args:
        mistakes: One or more mistakes.
    """

    def __init__(self, mistakes: Sequence[UsageError]) -> None:
        first = mistakes[0]
        super().__init__(first.what, first.why, first.fix)
        self.args = ("\n".join(three_lines(mistake) for mistake in mistakes),)
        self.mistakes = list(mistakes)


def refuse(mistakes: Sequence[UsageError]) -> None:
    """Raise all mistakes as one `UsageErrors`, each once; nothing where there is none.

    Raises:
        UsageErrors: If there are any.
    """
    if mistakes:
        raise UsageErrors(list({three_lines(mistake): mistake for mistake in mistakes}.values()))


def three_lines(error: UsageError | RunError) -> str:
    """Format a mistake in three lines: what is wrong, why, what to type."""
    what, why, fix = (_one_line(text) for text in (error.what, error.why, error.fix))
    return f"tser: {what}\n  why: {why}\n  try: {fix}"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


def nearest(word: str, names: Iterable[str]) -> str | None:
    """Give the name that a misspelt word most likely means; None if none is near."""
    names = list(names)
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return close[0] if close else next((name for name in names if word and name.startswith(word)), None)


def as_typed(value: Any) -> str:
    """Write a value as one types it on the command line: null, true, 0.1, [1,8,8]."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(as_typed, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{as_typed(inner)}" for key, inner in value.items()) + "}"
    return str(value)
