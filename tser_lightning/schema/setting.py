"""What all declarations of settings share: their types, and one setting as messages and help see it."""

import functools
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from types import GenericAlias
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tser_lightning.schema.words import choices, in_words

STRICT = ConfigDict(strict=True, allow_inf_nan=False)

UnitInterval = Annotated[float, Field(ge=0, le=1)]
UnitIntervalOpenAbove = Annotated[float, Field(ge=0, lt=1)]
OpenUnitInterval = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Whole = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Text = Annotated[str, Field(min_length=1)]
Keep = Literal["weights", "last", "all"]  # of the checkpoints of a finished run: see `records.run_directory.KEEPS`


def about(meaning: str, **more: Any) -> Any:
    """Declare what a setting means, and `default=...` if no file in conf/ has to give its value."""
    return Field(description=meaning, **more)


class Settings(BaseModel):
    """The settings of one class or function, or of a group that makes no object.

    A subclass says whose they are by `group`, a dotted place in a config ("trainer", "logging.wandb"), by
    `targets`, the dotted paths that a `_target_` may name, or by neither if others inherit from it:

        class LastStep(Settings, targets=("tser_lightning.losses.LastStep",)):
            weight: NotNegative = about("of the cross-entropy")
    """

    model_config = STRICT
    groups: ClassVar[dict[str, type["Settings"]]] = {}
    by_target: ClassVar[dict[str, type["Settings"]]] = {}

    def __init_subclass__(cls, group: str | None = None, targets: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if group is not None:
            Settings.groups[group] = cls
        Settings.by_target.update(dict.fromkeys(targets, cls))


class TaskSettings(Settings):
    """The settings of a task, in a group of its own: they have no part in what a training gives, nor in its name."""


@dataclass(frozen=True)
class Setting:
    """One declared setting.

    Attributes:
        name: Without the place that it stands in.
        field: Its declaration.
    """

    name: str
    field: FieldInfo

    @functools.cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        kind: Any = self.field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return TypeAdapter(kind)  # it has its own config
        return TypeAdapter(Annotated[kind, *self.field.metadata] if self.field.metadata else kind, config=STRICT)

    @property
    def meaning(self) -> str:
        """A line on what it means."""
        return self.field.description or ""

    @property
    def has_default(self) -> bool:
        """Whether it has a value where no file gives one."""
        return self.field.default is not PydanticUndefined

    def takes(self, value: Any) -> bool:
        """Tell whether a value will do."""
        try:
            self._adapter.validate_python(value)
        except (ValidationError, OverflowError):
            return False
        return True

    def as_declared(self, value: Any) -> Any:
        """Give a value that will do in the declared type: 1 is 1.0 where a fraction is meant."""
        return self._adapter.validate_python(value)

    @property
    def is_list(self) -> bool:
        """Whether only a list will do."""
        return self._adapter.json_schema().get("type") == "array"

    @property
    def names(self) -> list[str]:
        """The names that will do; empty for a setting that takes more than a few of them."""
        return choices(self._adapter.json_schema())

    @property
    def wanted(self) -> str:
        """What will do, in words that follow "is not": "a number from 0 to 1"."""
        return in_words(self._adapter.json_schema())


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        raise ValueError("it is not finite")
    return value


def undeclared(name: str, default: Any, ours: bool) -> Setting:
    """Give what a setting that nothing declares may be: what is of the type of its default.

    Args:
        name: Name of the setting.
        default: Its value in the file that has it; `???` if it has none.
        ours: Whether it belongs to a class of this package; for a user's own, a whole number may become a fraction.
    """
    return Setting(name, FieldInfo.from_annotation(_type_of(default, ours)))


def _type_of(default: Any, ours: bool) -> Any:
    if default is None or default == "???":
        return Annotated[Any, AfterValidator(_finite)]
    if isinstance(default, bool):
        return bool
    if isinstance(default, int | float):
        return int if isinstance(default, int) and ours else float
    if isinstance(default, list):
        kinds = {type(item) for item in default}
        return GenericAlias(list, (_type_of(default[0] if len(kinds) == 1 else None, ours),))
    return Text


@functools.cache
def _read_all() -> None:
    package = importlib.import_module("tser_lightning.schema")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


@functools.cache
def is_of_a_task(group: str) -> bool:
    """Tell whether a group at the top of a config holds the settings of a task (`TaskSettings`)."""
    _read_all()
    return issubclass(Settings.groups.get(group, Settings), TaskSettings)


def settings_of(place: str, target: object = None) -> dict[str, Setting]:
    """Give the declared settings of a place in a config, by name.

    Args:
        place: Dotted, e.g. "loss" or "teacher.training.optim"; "" for the top.
        target: The `_target_` that stands there, if one does; one that is no text has no settings.
    """
    return _settings_of(place, target if isinstance(target, str) else "")


@functools.cache
def _settings_of(place: str, target: str) -> dict[str, Setting]:
    _read_all()
    owners = [Settings.groups.get(place), Settings.by_target.get(target)]
    fields = {name: field for owner in owners if owner is not None for name, field in owner.model_fields.items()}
    return {name: Setting(name, field) for name, field in fields.items()}


def declared_targets() -> frozenset[str]:
    """Give the dotted paths whose settings are declared: what a config may name in a `_target_`."""
    _read_all()
    return frozenset(Settings.by_target)


def takes_a_list(name: str) -> bool:
    """Tell whether a setting of that name takes lists alone, whatever it belongs to."""
    _read_all()
    owners = [*Settings.groups.values(), *Settings.by_target.values()]
    return any(Setting(name, owner.model_fields[name]).is_list for owner in owners if name in owner.model_fields)


def setting(config: Mapping[str, Any], key: str) -> Setting | None:
    """Find the declaration of a setting; None if nothing in schema/ declares it.

    Args:
        config: In plain containers, for the `_target_` that decides which settings there are.
        key: Its dotted name.
    """
    place, _, name = key.rpartition(".")
    node: Any = config
    for part in place.split(".") if place else ():
        node = node.get(part) if isinstance(node, Mapping) else None
    target = node.get("_target_") if isinstance(node, Mapping) else None
    return settings_of(place, target).get(name) or _inside(config, place, name)


def _inside(config: Mapping[str, Any], place: str, name: str) -> Setting | None:
    """Find a setting in a part of a class's settings that is a `Settings` itself, e.g. `data.augment.crop`."""
    outer = setting(config, place) if place else None
    part = outer.field.annotation if outer else None
    if isinstance(part, type) and issubclass(part, Settings) and name in part.model_fields:
        return Setting(name, part.model_fields[name])
    return None


def declared(config: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Setting, Any]]:
    """Walk the settings of a config that are declared: dotted name, declaration, value or default.

    Args:
        config: In plain containers.
        place: Dotted, for a part of it.
    """
    node: Any = config
    for part in place.split(".") if place else ():
        node = node[part]
    for name, value in node.items():
        key = f"{place}.{name}" if place else str(name)
        if isinstance(value, Mapping):
            yield from declared(config, key)
        elif (found := setting(config, key)) is not None:
            yield key, found, value
    for name, known in settings_of(place, node.get("_target_")).items():
        if known.has_default and name not in node:
            yield f"{place}.{name}" if place else name, known, known.field.default
