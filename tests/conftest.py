"""One thread per test process: the tests run several at once, and more threads than cores only wait for each other."""

import os

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says more of the machine, which may be at work elsewhere, than of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Export comes last: torch.export starts threads of autograd, and a process that has them cannot fork to train."""
    items.sort(key=lambda item: item.path.name == "test_export.py")
