"""Provenance of a result: commit, versions, hardware."""

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tser_lightning.operating_system import cores

PACKAGES = ("tser-lightning", "torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "omegaconf", "wandb")


def provenance(overrides: Sequence[str]) -> dict[str, Any]:
    """Collect the provenance that run.json records.

    Args:
        overrides: The command line's overrides.
    """
    return {
        "overrides": list(overrides),
        "git": git_state(Path(__file__).parent),
        "versions": {"python": platform.python_version(), **_versions()},
        "hardware": hardware(),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the checkout that holds a folder and whether it is changed; None outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # an installed package inside another project's checkout
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores, memory and accelerators of this machine."""
    import torch

    return {
        "processor": platform.processor() or platform.machine(),
        "cores": cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }
