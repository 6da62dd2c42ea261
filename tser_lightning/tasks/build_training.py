"""Make `Recipe`, `Machine` and callbacks of a resolved config."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from tser_lightning.registry.build import found, instantiate, settings_in
from tser_lightning.training.recipe import Machine, Recipe

Config = Mapping[str, Any]


def build_recipe(settings: Config, optim: Config, schedule: Config, steps: int | None) -> Recipe:
    """Make a recipe of plain settings, an optimiser config and a schedule config."""
    own = set(Recipe.__dataclass_fields__) - {"optimizer", "schedule", "steps"}
    known = {key: value for key, value in settings.items() if key in own}
    if steps is not None:
        known["epochs"] = 1
    return Recipe(
        **known,
        optimizer=partial(found(optim["_target_"]), **settings_in(optim)),
        schedule=instantiate(schedule),
        steps=steps,
    )


def build_machine(config: Config) -> Machine:
    """Make the machine settings of a config."""
    return Machine(**{key: value for key, value in config["machine"].items() if key in Machine.__dataclass_fields__})


def build_callbacks(config: Config) -> list[Any]:
    """Make the user's own Lightning callbacks."""
    return [instantiate(node) for node in config["callbacks"].values()]
