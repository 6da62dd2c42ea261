from collections.abc import Callable
from typing import Any

import pytest

from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import compose_run
from tser_lightning.tasks.run_task import run_task

Command = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def command(configs: Configs) -> Command:
    """Run a task as a command does, on the processor and without W&B."""
    place = ["logging.wandb.mode=disabled", "machine.accelerator=cpu"]
    return lambda *overrides: run_task(compose_run([*place, *overrides], configs=configs))
