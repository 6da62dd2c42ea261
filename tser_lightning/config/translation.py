"""What the library says of its arguments, said of settings: `dim=3` of a student is `student.dim=3` in a command."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tser_lightning.errors import UsageError


@contextlib.contextmanager
def arguments_as_settings(place: str, settings: Mapping[str, Any]) -> Iterator[None]:
    """Let errors of a block that makes an object name the settings that it was made from.

    Args:
        place: Where they stand in a config, e.g. "student".
        settings: By the names of the arguments.

    Raises:
        UsageError: The same, in a command's words.
    """
    try:
        yield
    except UsageError as error:
        names = "|".join(re.escape(name) for name in settings if not name.startswith("_"))
        argument = re.compile(rf"(?<![\w.])({names})(?= ?=)")
        what, why, fix = (argument.sub(rf"{place}.\1", text) for text in (error.what, error.why, error.fix))
        raise UsageError(what, why, fix) from error
