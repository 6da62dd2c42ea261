"""Every file in conf/data makes a set that keeps the contract; a new file is found by itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from tser_lightning.config.hydra_loader import Configs
from tser_lightning.data import Batch, ImageData, write_prepared
from tser_lightning.data.checks import frames_path

_NAMES = Configs().options("data")


def _small(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fill in what a user must give, and make small files of that form."""
    given = {
        "num_classes": 3,
        "shape": [3, 32, 32],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "path": str(folder / "mine.safetensors"),
    }
    settings |= {key: given[key] for key, value in settings.items() if value == "???"}
    classes, (channels, height, width) = settings["num_classes"], settings["shape"]
    if settings["_target_"].endswith(("ImageFolder", "Streamed")):
        classes = 3
        for label in range(2 * classes):
            file = folder / ("train" if label % 2 else "val") / f"class {label // 2}" / "image.png"
            file.parent.mkdir(parents=True)
            Image.fromarray(np.full((300, 280, channels), label, dtype=np.uint8)).save(file)
        if settings["_target_"].endswith("Streamed"):
            for part in ("train", "val"):
                files = sorted((folder / part).glob("*/*"))
                inputs = [(str(file), number) for number, file in enumerate(files)]
                litdata = pytest.importorskip("litdata")
                litdata.optimize(fn=_sample, inputs=inputs, output_dir=f"{folder}/{part}", num_workers=1, chunk_size=2)
        return settings | {"path": str(folder), "num_classes": classes}
    name = settings.get("name", "mine")
    if "recordings" in settings:
        name = frames_path("", *(settings[key] for key in ("recordings", "split", "timesteps", "shape"))).stem
        channels *= settings["timesteps"]
    arrays = {}
    for part in ("train", "test"):
        arrays[f"{part}_images"] = torch.zeros(2 * classes, height, width, channels, dtype=torch.uint8)
        arrays[f"{part}_labels"] = torch.arange(2 * classes) % classes
    write_prepared(folder / f"{name}.safetensors", arrays)
    return settings | ({"root": str(folder)} if "root" in settings else {})


def _sample(item: tuple[str, int]) -> dict[str, Any]:
    return {"image": Path(item[0]).read_bytes(), "label": item[1]}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "litdata")) for name in _NAMES]
)
def test_config_makes_a_set_that_keeps_the_contract(name: str, tmp_path: Path) -> None:
    settings: Any = OmegaConf.to_container(Configs().compose([f"data={name}"]).config.data)
    data: ImageData = instantiate(_small(settings, tmp_path) | {"validation": 0.4}, _convert_="all")

    data.check()
    assert data.prepare()
    assert len(data.fingerprint()) == 64
    for split in ("train", "val", "test"):
        batch = next(iter(data.loader(split, batch_size=1, seed=1)))
        assert isinstance(batch, Batch)
        steps = (settings["timesteps"],) if "timesteps" in settings else ()
        assert batch.images.shape == (*steps, 1, *data.shape)
        assert batch.images.dtype == torch.float32
        assert 0 <= batch.labels.item() < data.num_classes
    if not settings["_target_"].endswith(("ImageFolder", "Streamed")):
        assert data.name.startswith(name) or name == "prepared"
    assert data.batch_size == settings["batch_size"]
