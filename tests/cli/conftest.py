from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def folder(empty_folder: Path, without_hydras_logging: None) -> Path:
    """Where every test of this room works."""
    return empty_folder
