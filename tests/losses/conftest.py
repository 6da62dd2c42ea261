from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

CONF = Path(__file__).parents[2] / "conf" / "loss"


@pytest.fixture(scope="session")
def build() -> Callable[..., Any]:
    """Make a loss from its config file, as the command line does: build("tser", alpha=0.3)."""

    def from_config(name: str, **settings: Any) -> Any:
        config = OmegaConf.create({"loss": OmegaConf.load(CONF / f"{name}.yaml")})
        OmegaConf.set_struct(config, True)
        return instantiate(OmegaConf.merge(config, {"loss": settings}).loss, _convert_="all")

    return from_config
