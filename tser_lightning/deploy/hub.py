"""Students on the Hugging Face Hub: `hf://OWNER/NAME`, or `hf://OWNER/NAME@REVISION`."""

import importlib
from pathlib import Path
from typing import Any

from tser_lightning.errors import RunError, UsageError

SCHEME = "hf://"
FILES = ("student.safetensors", "student.json", "README.md")


def pulled(address: str) -> Path:
    """Download a student into the Hub's cache, or find it there (`HF_HUB_OFFLINE=1` looks nowhere else).

    Args:
        address: hf://OWNER/NAME, with @REVISION for another branch, tag or commit than main.

    Returns:
        The folder that its files lie in.

    Raises:
        UsageError: It is not there, cannot be reached, or huggingface_hub is not installed.
    """
    hub = _library(address)
    name, _, revision = address.removeprefix(SCHEME).partition("@")
    try:
        return Path(hub.snapshot_download(name, revision=revision or None, allow_patterns=list(FILES)))
    except Exception as error:  # whatever a download, or the check of a name, can raise
        raise UsageError(
            what=f"{address} gives no student: {_said(error)}",
            why="it is fetched from the Hugging Face Hub, or found in its cache",
            fix="hf://OWNER/NAME of a student there, or a folder that lies here",
        ) from error


def pushed(folder: Path, address: str) -> str:
    """Upload a student's files to the Hub as a new commit; a missing repository is created.

    Who may write there is settled by the Hub's own login (`hf auth login`, or HF_TOKEN).

    Args:
        folder: Folder with the files of `FILES`.
        address: hf://OWNER/NAME, with @BRANCH for another branch than main.

    Returns:
        The address of the commit.

    Raises:
        RunError: The Hub did not take them.
        UsageError: huggingface_hub is not installed.
    """
    hub = _library(address)
    name, _, branch = address.removeprefix(SCHEME).partition("@")
    try:
        hub.create_repo(name, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=name,
            folder_path=folder,
            revision=branch or None,
            allow_patterns=list(FILES),
            commit_message="A student of tser_lightning",
        )
    except Exception as error:  # whatever an upload can raise
        raise RunError(
            what=f"{address} was not written: {_said(error)}",
            why=f"the Hugging Face Hub did not take the files, which lie in {folder}",
            fix="hf auth login, or HF_TOKEN of a token that may write there, and the command again",
        ) from error
    return str(commit)


def _library(address: str) -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise UsageError(
            what=f"{address} needs huggingface_hub, which is not installed",
            why="students come from the Hugging Face Hub, and go there, through its own library",
            fix="pip install 'tser-lightning[hub]'",
        ) from error


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
