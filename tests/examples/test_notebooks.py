"""Every notebook in examples/ runs from its first cell to its last."""

import json
import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SAID = {
    "compare_losses": r"tser: single steps [\d. ]+, all [\d.]+, teacher [\d.]+",
    "inside_a_student": r"largest difference: 0\.0",
    "when_to_stop": r"early: accuracy [\d.]+ %, [1-5]\.\d+ steps an image",
}


def cells(name: str, kind: str) -> list[dict[str, Any]]:
    notebook = json.loads((EXAMPLES / f"{name}.ipynb").read_text())
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_every_notebook_is_tested_listed_and_holds_no_output() -> None:
    names = {file.stem for file in EXAMPLES.glob("*.ipynb")}
    assert names == SAID.keys()
    assert set(re.findall(r"\((\w+)\.ipynb\)", (EXAMPLES / "README.md").read_text())) == names
    for name in names:
        assert not any(cell["outputs"] or cell["execution_count"] for cell in cells(name, "code"))


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if "compare" in n else n for n in SAID])
def test_the_cells_of_a_notebook_run_in_their_order(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells(name, "code")):
        exec(compile("".join(cell["source"]), f"{name}.ipynb[{number}]", "exec"), names)
    plt.close("all")
    assert re.search(SAID[name], capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAID)
def test_a_notebook_runs_in_a_kernel(name: str, tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any(output["output_type"] == "display_data" for cell in notebook.cells for output in cell.get("outputs", []))
