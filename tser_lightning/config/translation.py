"""Messages about arguments as messages about settings: a student's `dim=3` is `student.dim=3` in a command."""

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tser_lightning.errors import RunError, UsageError
from tser_lightning.registry import options
from tser_lightning.schema.setting import settings_of

# Whose arguments the library speaks of; a name that several of them have is the last one's. Students and teachers share
# their names: what is said while one of them is made is translated there.
_GROUPS = ("neuron", "optim", "loss", "data", "trainer", "machine")
_NAMED_BY_CLASS = ("data", "loss", "neuron", "norm")
_VALUES = {"None": "null", "True": "true", "False": "false"}


class Translation:
    """Replaces arguments in a text by settings, and Python's values by YAML's.

    An argument is a name before `=`, or one in backticks. A name with a dot before it is a setting already. A class in
    backticks is the option of its name.

        >>> translation = Translation({"clip": "trainer.clip"})
        >>> translation("clip=None, or a smaller `clip`")
        'trainer.clip=null, or a smaller trainer.clip'
        >>> translation("`ImageFolder` reads folders")
        'data=image_folder reads folders'

    Args:
        settings: The names of settings by those of arguments.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = settings
        names = "|".join(re.escape(name) for name in settings)
        self._given = re.compile(rf"(?<![\w.])({names})( ?=)(?!=)(?:(None|True|False)\b)?") if names else None
        self._named = re.compile(rf"`({names})`") if names else None

    def __call__(self, text: str) -> str:
        """Translate a text."""
        if self._given is None or self._named is None:
            return text
        text = self._given.sub(lambda found: self._settings[found[1]] + found[2] + _VALUES.get(found[3], ""), text)
        text = self._named.sub(lambda found: self._settings[found[1]], text)
        return _CLASS.sub(_as_option, text)

    def filter(self, record: logging.LogRecord) -> bool:
        """Translate the text of a log record."""
        record.msg, record.args = self(record.getMessage()), ()
        return True


_CLASS = re.compile(r"`([A-Z]\w*)`")


def _as_option(found: re.Match[str]) -> str:
    for group in _NAMED_BY_CLASS:
        for option in options.names(group):
            if option.replace("_", "") == found[1].lower():
                return f"{group}={option}"
    return found[1]


@contextlib.contextmanager
def translated(translation: Translation) -> Iterator[None]:
    """Translate the errors and log records of a block.

    Raises:
        UsageError: The same, in a command's words; so RunError.
    """
    log = logging.getLogger("tser_lightning")
    log.addFilter(translation)
    try:
        yield
    except (UsageError, RunError) as error:
        error.what, error.why, error.fix = (translation(text) for text in (error.what, error.why, error.fix))
        error.args = (f"{error.what}\n  why: {error.why}\n  try: {error.fix}",)
        raise
    finally:
        log.removeFilter(translation)


def arguments_as_settings(place: str, settings: Mapping[str, Any]) -> contextlib.AbstractContextManager[None]:
    """Translate the messages of a block that makes an object, by the settings that it is made from.

    Args:
        place: Where they stand in a config, e.g. "student".
        settings: By the names of the arguments.
    """
    return translated(Translation({name: f"{place}.{name}" for name in settings if not name.startswith("_")}))


def arguments_of_a_run(config: Mapping[str, Any]) -> contextlib.AbstractContextManager[None]:
    """Translate the messages of a block by the settings of a whole config."""
    names = {name: f"data.augment.{name}" for name in config.get("data", {}).get("augment") or {}}
    names |= {name: name for name, value in config.items() if not isinstance(value, Mapping)}
    for group in _GROUPS:
        node = config.get(group) or {}
        known = node.keys() | settings_of(group, node.get("_target_")).keys()
        names |= {name: f"{group}.{name}" for name in known if not name.startswith("_")}
    return translated(Translation(names | {"timesteps": "student.timesteps"}))
