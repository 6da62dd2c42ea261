"""Every script in examples/ runs and says what it promises."""

import ast
import re
import runpy
from pathlib import Path

import pytest
import torch

from tser_lightning import losses
from tser_lightning.neurons import LIF

EXAMPLES = Path(__file__).parents[2] / "examples"
SAID = {  # a pattern of what each prints last
    "own_loss": r"step 1: [\d.]+ %, both steps: ([89]\d|100)[\d.]* %, teacher: 9[\d.]+ %",
    "own_neuron": r"rise 1.0: accuracy [\d.]+ %, firing rate [\d.]+ %",
    "spikingjelly_student": r"largest difference of a logit: 0\.0, after training: accuracy [\d.]+ %",
    "own_images": r"teacher ([89]\d|100)[\d.]* %, student [\d.]+ %",
    "plain_lightning": r"test/acc",
    "early_exit": r"early: accuracy [\d.]+ %, [1-3]\.\d+ steps an image",
    "classify_image": r"digit.png: \d, probability [01]\.\d+",
    "published_checkpoint": r"logits of 2 images at each of 4 steps: \[4, 2, 10\]",
}
AFTER_EXPORT = {"export_onnx", "run_onnx"}  # test_export.py


def run(name: str) -> None:
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def test_every_script_is_tested_and_listed() -> None:
    scripts = {file.stem for file in EXAMPLES.glob("*.py")}
    assert scripts == SAID.keys() | AFTER_EXPORT
    listed = set(re.findall(r"\((\w+)\.py\)", (EXAMPLES / "README.md").read_text()))
    assert listed == scripts


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "own_images" else n for n in SAID])
def test_a_script_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "spikingjelly_student":
        pytest.importorskip("spikingjelly")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [f"{name}.py"])
    run(name)
    assert re.search(SAID[name], capsys.readouterr().out)


def test_the_loss_of_the_example_is_that_of_the_package() -> None:
    torch.manual_seed(0)
    student_TBC, teacher_BC, labels_B = torch.randn(3, 4, 5), torch.randn(4, 5), torch.tensor([0, 1, 2, 4])
    mine = runpy.run_path(str(EXAMPLES / "own_loss.py"))["DKD"](alpha=0.5, beta=2.0, tau=3.0)
    theirs = losses.DKD(alpha=0.5, beta=2.0, tau=3.0, warmup=0.0)
    found, expected = mine(student_TBC, teacher_BC, labels_B), theirs(student_TBC, teacher_BC, labels_B)
    torch.testing.assert_close(found.total, expected.total)
    torch.testing.assert_close(found.parts, expected.parts)


def test_the_neuron_of_the_example_is_lif_where_its_threshold_stays() -> None:
    alif = runpy.run_path(str(EXAMPLES / "own_neuron.py"))["ALIF"]
    assert torch.equal(alif(rise=0.0)(currents := 3 * torch.randn(5, 3, 4)), LIF()(currents))


def test_the_threshold_of_the_example_rises_as_worked_by_hand() -> None:
    alif = runpy.run_path(str(EXAMPLES / "own_neuron.py"))["ALIF"]
    # v = 1.2 fires over 1 + 5 * 0; then 1.2 meets 1 + 5 * 0.1, and v = 0.5 * 1.2 + 0.5 * 2.4 = 1.8 meets 1 + 5 * 0.09
    spikes = alif(rise=5.0)(torch.tensor([2.4, 2.4, 2.4]))
    assert spikes.tolist() == [1, 0, 1]


def test_the_runner_of_the_exported_file_imports_nothing_of_ours() -> None:
    tree = ast.parse((EXAMPLES / "run_onnx.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert names == {"numpy", "onnxruntime"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
