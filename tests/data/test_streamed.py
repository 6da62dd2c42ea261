"""Sets in litdata's chunks, written by litdata itself where it is installed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tser_lightning.data import ImageFolder, Streamed
from tser_lightning.data.checks import check_data
from tser_lightning.errors import UsageError

SETTINGS: dict[str, Any] = {"num_classes": 2, "shape": [3, 8, 8], "mean": [0.5] * 3, "std": [0.5] * 3, "resize": 10}


def sample(item: tuple[str, int]) -> dict[str, Any]:
    return {"image": Path(item[0]).read_bytes(), "label": item[1]}


def index(folder: Path, types: Any, forms: Any = ("bytes", "int")) -> None:
    for part in ("train", "val"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / "index.json").write_text(json.dumps({"config": {"types": types, "data_format": forms}}))


@pytest.mark.slow
def test_chunks_give_the_batches_of_the_folders_that_they_were_made_from(tmp_path: Path) -> None:
    litdata = pytest.importorskip("litdata")
    folders, chunks = tmp_path / "folders", tmp_path / "chunks"
    random = np.random.default_rng(0)
    for part, images in (("train", 12), ("val", 4)):
        for label in range(2):
            (folders / part / str(label)).mkdir(parents=True)
            for number in range(images):
                pixels = random.integers(0, 256, (12, 11 + number, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folders / part / str(label) / f"{number:02}.png")
        items = [(str(file), int(file.parent.name)) for file in sorted((folders / part).glob("*/*"))]
        litdata.optimize(fn=sample, inputs=items, output_dir=str(chunks / part), num_workers=1, chunk_bytes="8KB")
    expected = ImageFolder(folders, **SETTINGS, augment={"flip": True})
    data = Streamed(str(chunks), **SETTINGS, augment={"flip": True})

    data.check()
    for split in ("train", "val", "test"):
        for workers in (0, 2):
            ours = list(data.loader(split, batch_size=4, seed=3, workers=workers))
            theirs = list(expected.loader(split, batch_size=4, seed=3))
            assert len(ours) == len(theirs) > 0
            for batch, other in zip(ours, theirs, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(batch, other, strict=True))
    assert len(list((chunks / "train").glob("chunk-*"))) > 1
    again = Streamed(str(chunks), **SETTINGS)
    assert again.fingerprint() == data.fingerprint()
    assert torch.equal(again.labels("train"), expected.labels("train"))
    with pytest.raises(UsageError, match=r"num_classes=1, but the labels .* go from 0 to 1"):
        Streamed(str(chunks), **SETTINGS | {"num_classes": 1}).labels("train")


GOOD = {"image": "bytes", "label": "int"}


@pytest.mark.parametrize(
    ("types", "forms"),
    [
        ({"image": "pickle", "label": "int"}, ["pickle", "int"]),
        (GOOD, ["pickle", "int"]),  # what is read goes by this list
        ({"image": "bytes"}, ["bytes"]),
        (None, ["bytes", "int"]),
    ],
)
def test_samples_of_another_form_are_refused_before_they_are_read(types: Any, forms: Any, tmp_path: Path) -> None:
    index(tmp_path, types, forms)
    with pytest.raises(UsageError, match="lists samples of the form"):
        check_data(SETTINGS | {"_target_": "tser_lightning.data.Streamed", "path": str(tmp_path)})


def test_a_folder_without_chunks_is_refused(tmp_path: Path) -> None:
    index(tmp_path, GOOD)
    settings = SETTINGS | {"_target_": "tser_lightning.data.Streamed", "path": str(tmp_path)}
    check_data(settings)
    check_data(settings | {"path": "s3://bucket/set"})
    (tmp_path / "val" / "index.json").write_text("no")
    with pytest.raises(UsageError, match="the folder that holds train/ and val/"):
        check_data(settings)


def test_without_litdata_the_extra_is_named(tmp_path: Path) -> None:
    try:
        import litdata  # noqa: F401
    except ImportError:
        index(tmp_path, GOOD)
        with pytest.raises(UsageError, match=r"tser-lightning\[litdata\]"):
            Streamed(str(tmp_path), **SETTINGS).check()
    else:
        pytest.skip("litdata is installed")
