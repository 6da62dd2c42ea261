"""Files with code in them: none of it runs, whatever reads them."""

import builtins
import importlib
import io
import os
import pickle
import runpy
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tser_lightning.errors import RunError, UsageError
from tser_lightning.models import resnet_small
from tser_lightning.training import load_weights
from tser_lightning.training.checkpoints import read_sealed, sealed


class Gadget:
    """Asks whoever unpickles it to call something."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


def gadgets(mark: Path, folder: Path) -> dict[str, Any]:
    script = folder / "script.py"
    script.write_text(f"open({str(mark)!r}, 'w')")
    code = script.read_text()
    return {
        "os.system": Gadget(os.system, f"touch {mark}"),
        "os.mkdir": Gadget(os.mkdir, str(mark)),
        "subprocess.call": Gadget(subprocess.call, ["touch", str(mark)]),
        "subprocess.Popen": Gadget(subprocess.Popen, ["touch", str(mark)]),
        "eval": Gadget(builtins.eval, code),
        "exec": Gadget(builtins.exec, code),
        "open": Gadget(builtins.open, str(mark), "w"),
        "getattr": Gadget(builtins.getattr, Gadget(importlib.import_module, "os"), "system"),
        "runpy": Gadget(runpy.run_path, str(script)),
        "copy": Gadget(shutil.copy, str(script), str(mark)),
        "partial": Gadget(partial(os.system, f"touch {mark}")),
        "pickle in pickle": Gadget(pickle.loads, pickle.dumps(Gadget(os.system, f"touch {mark}"))),
        "inside a state": {"fc.weight": torch.zeros(2), "fc.bias": Gadget(os.system, f"touch {mark}")},
    }


def _raw(content: Any) -> bytes:
    return pickle.dumps(content)


def _zipped(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _legacy(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.mark.parametrize("form", [_raw, _zipped, _legacy, sealed])
def test_no_gadget_runs(tmp_path: Path, form: Callable[[Any], bytes]) -> None:
    mark, network = tmp_path / "ran", resnet_small(10, 1, widths=(4, 8))
    corpus = gadgets(mark, tmp_path)
    assert len(corpus) >= 10
    for name, content in corpus.items():
        for suffix in (".pt", ".ckpt", ".safetensors", ".json"):
            file = tmp_path / f"weights{suffix}"
            file.write_bytes(form(content))
            with pytest.raises(UsageError, match=r"cannot be read as weights|holds more than tensors"):
                load_weights(network, file)
            with pytest.raises(RunError, match="is damaged"):
                read_sealed(file)
            file.unlink()
        assert not mark.exists(), name


def test_the_gadgets_do_work_where_code_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    pickle.loads(_raw(gadgets(mark, tmp_path)["open"]))
    assert mark.exists()
