"""Images, augmentation and their deterministic order.

Names are imported when they are first used: `checks` must work without the seconds that torch takes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tser_lightning.data.array_data import ArrayData as ArrayData
    from tser_lightning.data.augment import Augment as Augment
    from tser_lightning.data.batch import Batch as Batch
    from tser_lightning.data.checks import check_data as check_data
    from tser_lightning.data.data_module import ImageDataModule as ImageDataModule
    from tser_lightning.data.digits import Digits as Digits
    from tser_lightning.data.download import Downloaded as Downloaded
    from tser_lightning.data.events import EventFrames as EventFrames
    from tser_lightning.data.folder import ImageFolder as ImageFolder
    from tser_lightning.data.image_data import ImageData as ImageData
    from tser_lightning.data.prepared import Prepared as Prepared
    from tser_lightning.data.prepared import write_prepared as write_prepared
    from tser_lightning.data.streamed import Streamed as Streamed
    from tser_lightning.data.synthetic import Synthetic as Synthetic

_MODULES = {
    "ArrayData": "array_data",
    "Augment": "augment",
    "Batch": "batch",
    "check_data": "checks",
    "ImageDataModule": "data_module",
    "Digits": "digits",
    "Downloaded": "download",
    "EventFrames": "events",
    "ImageFolder": "folder",
    "ImageData": "image_data",
    "Prepared": "prepared",
    "write_prepared": "prepared",
    "Streamed": "streamed",
    "Synthetic": "synthetic",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
