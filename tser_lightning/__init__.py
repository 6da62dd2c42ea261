"""Distil a frozen ANN teacher into a spiking student.

The names below are what a notebook or a script may rely on; they are imported when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tser_lightning.api import build_loss, build_neuron, build_student, build_teacher, train
    from tser_lightning.deploy.load import load_student
    from tser_lightning.registry.trust import trust

__all__ = ["build_loss", "build_neuron", "build_student", "build_teacher", "load_student", "train", "trust"]
__version__: str

_HOMES = {"load_student": "deploy.load", "trust": "registry.trust"}  # of the names that are not in `api`


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # not before the folder that we work in is searched last

        return version("tser-lightning")
    if name not in __all__:
        raise AttributeError(f"module 'tser_lightning' has no attribute {name!r}")
    return getattr(import_module(f"tser_lightning.{_HOMES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
