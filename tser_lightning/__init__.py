"""Distil a frozen ANN teacher into a spiking student.

The names below are what a notebook or a script may rely on; they are imported when first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tser_lightning.api import (
        build_loss,
        build_neuron,
        build_student,
        build_teacher,
        load_student,
        train,
    )
    from tser_lightning.registry.trust import trust

__all__ = ["build_loss", "build_neuron", "build_student", "build_teacher", "load_student", "train", "trust"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'tser_lightning' has no attribute {name!r}")
    from tser_lightning import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return __all__
