"""Checkpoints of spiking networks that their authors have published: where they are, and what they are.

The files are the authors', under their terms. Most lie where only a browser can fetch them.
"""

import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tser_lightning.errors import UsageError

_SEW = "https://figshare.com/articles/software/Spike-Element-Wise-ResNet/14752998"
_SDT = "https://github.com/BICLab/Spike-Driven-Transformer"
_SPIKINGFORMER = "https://github.com/zhouchenlin2096/Spikingformer"
_CML = "https://github.com/zhouchenlin2096/Spikingformer-CML"
_BKDSNN = "https://github.com/Intelligent-Computing-Research-Group/BKDSNN"


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A published checkpoint: its page, network and settings.

    Attributes:
        page: Where its authors offer it.
        family: The function in `tser_lightning.models` that makes its network, with its size where that is in the name.
        settings: Of `student=`.
        drive: Its number at Google Drive, where it can be fetched without a browser; None: it cannot.
    """

    page: str
    family: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    drive: str | None = None


def _sdt(depth: int, dim: int, drive: str) -> PublishedCheckpoint:
    return PublishedCheckpoint(_SDT, "sdt", {"depth": depth, "dim": dim, "heads": 8, "patch_size": 16}, drive)


def _spikingformer(page: str, depth: int, dim: int, patch_size: int, cml: bool) -> PublishedCheckpoint:
    heads = 8 if patch_size == 16 else 12
    settings = {"depth": depth, "dim": dim, "heads": heads, "patch_size": patch_size, "cml": cml}
    return PublishedCheckpoint(page, "spikingformer", settings)


PUBLISHED = {
    **{
        f"sew_resnet{depth}": PublishedCheckpoint(_SEW, f"sew_resnet{depth}", {"connect": "add"})
        for depth in (18, 34, 50)
    },
    **{
        f"bkdsnn_sew_resnet{n}": PublishedCheckpoint(_BKDSNN, f"sew_resnet{n}", {"connect": "add"})
        for n in (18, 34, 50)
    },
    "sdt_8_384": _sdt(8, 384, "10oH_zkwB4FDtFLgmZ_lI8e0tFjRzrXyD"),
    "sdt_6_512": _sdt(6, 512, "1hsShpFBKYpMK2TmpuoyBFORcLAuMHrx7"),
    "sdt_8_512": _sdt(8, 512, "1n59WNSBgP2VyAW2nfJX2Wvx5rgNJEMXI"),
    "sdt_10_512": _sdt(10, 512, "1l-c3QY5r4IFmYUmGPZXRHP_W7iC1sdP8"),
    "sdt_8_768": _sdt(8, 768, "1R-MaeFV8d2Y0pIGBSjklOGWhaF8dLHf4"),
    "spikingformer_8_768": _spikingformer(_SPIKINGFORMER, 8, 768, 16, cml=False),
    "spikingformer_cml_8_768": _spikingformer(_CML, 8, 768, 16, cml=True),
    "bkdsnn_spikingformer_cml_8_512": _spikingformer(_BKDSNN, 8, 512, 16, cml=True),
    "bkdsnn_spikingformer_cml_8_768": _spikingformer(_BKDSNN, 8, 768, 16, cml=True),
    **{
        f"bkdsnn_spikingformer_cml_{depth}_{dim}": _spikingformer(_BKDSNN, depth, dim, 4, cml=True)
        for depth, dim in ((4, 256), (2, 384), (4, 384))
    },
}


def published(name: str) -> PublishedCheckpoint:
    """Look a checkpoint up by its name.

    Raises:
        UsageError: There is none of this name.
    """
    if name not in PUBLISHED:
        raise UsageError(
            what=f"student.weights=published:{name}: no checkpoint of this name is known",
            why=f"known are {', '.join(PUBLISHED)}",
            fix="one of these names, or student.weights=FILE",
        )
    return PUBLISHED[name]


def published_file(name: str) -> Path:
    """Give the file of a checkpoint, fetched now where that is possible.

    Raises:
        UsageError: There is no checkpoint of this name, or its file has to be fetched with a browser.
    """
    entry = published(name)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / f"{name}.pth"
    reason = "its authors offer it on a page that only a browser can use"
    if not file.is_file() and entry.drive:
        reason = _fetch(entry.drive, file)
    if not file.is_file():
        raise UsageError(
            what=f"student.weights=published:{name} is not at hand: {reason}",
            why=f"it lies at {entry.page}",
            fix=f"the file from there, saved as {file}; or student.weights=FILE with the file as it is",
        )
    return file


def _fetch(drive: str, file: Path) -> str:
    """Download a file from Google Drive; return the reason if that failed, else an empty text."""
    from torchvision.datasets.utils import download_file_from_google_drive

    try:
        download_file_from_google_drive(drive, file.parent, file.name)
    except (OSError, RuntimeError, ValueError, ImportError, urllib.error.URLError) as error:
        return f"the download failed ({' '.join(str(error).split())[:120] or type(error).__name__})"
    return "the download left no file"
