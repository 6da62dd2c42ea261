"""The scripts that write and run an ONNX file; torch.export comes last, see conftest.py."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_exported_file_gives_the_same_logits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("export_onnx", "run_onnx"):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    said = re.search(r"32 images, .* difference of a logit: (\S+)", capsys.readouterr().out)
    assert said is not None
    assert float(said[1]) < 1e-4
