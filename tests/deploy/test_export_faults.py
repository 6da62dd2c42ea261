"""A fault in a written file is found by its proof, whatever the format: exit code 1, and no file is left."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tser_lightning as tl
from tser_lightning.cli.main import guarded
from tser_lightning.config.run import compose_run
from tser_lightning.deploy import export_nir, export_onnx, export_pt2
from tser_lightning.tasks.run_task import run_task

PLACE = ["logging.wandb.mode=disabled", "machine.accelerator=cpu"]
DECAY, THRESHOLD = 0.3, 0.9
FAULTS = ("a wrong bias", "a swapped channel", "another reset", "another decay", "another threshold")
WRITERS = {"onnx": (export_onnx, "write_onnx"), "pt2": (export_pt2, "write_pt2"), "nir": (export_nir, "write_nir")}
NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "pt2": (), "nir": ("nir", "h5py")}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    student = tl.build_student("resnet_small", num_classes=10, in_channels=1, timesteps=3, widths=[4, 8])
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):  # a fault where nothing fires changes nothing
            nn.init.uniform_(module.bias, 0.3, 1)
    torch.save(student.net.state_dict(), folder / "start.pt")
    neuron = [f"neuron.decay={DECAY}", f"neuron.v_threshold={THRESHOLD}", "loss=ce", "teacher=none"]
    net = ["student=resnet_small", "student.widths=[4,8]", "student.timesteps=3", f"student.weights={folder}/start.pt"]
    run_task(compose_run([*PLACE, f"machine.runs_dir={folder}", *net, *neuron, "trainer.epochs=1", "optim.lr=1e-5"]))
    (home,) = folder.glob("digits-*")
    return home


def test_another_reset_in_a_program_of_torch_is_found(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _exported_with("another reset", home, "pt2", False, monkeypatch, capsys)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "step"), [("onnx", False), ("onnx", True), ("pt2", False), ("pt2", True), ("nir", False)]
)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(
    home: Path, form: str, step: bool, fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NEEDS[form]:
        pytest.importorskip(name)
    _exported_with(fault, home, form, step, monkeypatch, capsys)


_written: dict[tuple[str, bool], bytes] = {}  # the true files, each written once


def _exported_with(fault: str, home: Path, form: str, step: bool, monkeypatch: Any, capsys: Any) -> None:
    """Export with a fault planted in the written file, that of one step or of all, and look at how it ends."""
    module, name = WRITERS[form]
    write = getattr(module, name)

    def spoilt(model: Any, images: torch.Tensor, file: Path) -> None:
        key = (form, "_step" in file.name)
        if key not in _written:
            write(model, images, file)
            _written[key] = file.read_bytes()
        file.write_bytes(_written[key])
        if key[1] == step:
            PLANT[form](file, fault)
            assert file.read_bytes() != _written[key]

    monkeypatch.setattr(module, name, spoilt)
    words = [*PLACE, "task=export", f"run={home}", f"format={form}", "export.images=40"]

    def work() -> int:
        run_task(compose_run(words))
        return 0

    assert guarded(work) == 1
    file = f"student{'_step' if step else ''}.{form}"
    assert f"{file} does not compute what the student computes" in capsys.readouterr().err
    assert list((home / "export").iterdir()) == []


def _in_onnx(file: Path, fault: str) -> None:
    import onnx

    model = onnx.load(file)
    graph = model.graph
    weights = {each.name: each for each in graph.initializer}

    def changed(name: str, change: Callable[[Any], Any]) -> None:
        value = onnx.numpy_helper.to_array(weights[name])
        weights[name].CopyFrom(onnx.numpy_helper.from_array(np.asarray(change(value), value.dtype), name))

    def scalars(wanted: float) -> list[str]:
        values = {name: onnx.numpy_helper.to_array(each) for name, each in weights.items()}
        return [name for name, value in values.items() if value.size == 1 and np.allclose(value, wanted)]

    if fault == "a wrong bias":
        changed(next(name for name in weights if name.endswith("fc.bias")), _other_bias)
    elif fault == "a swapped channel":
        changed(next(name for name in weights if name.endswith("layer1.0.conv2.weight")), _swapped)
    elif fault == "another reset":  # 0.8 of the membrane is taken away, not all of it
        fired = {node.output[0] for node in graph.node if node.op_type == "Cast"}
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(0.8, np.float32), "share"))
        subs = [(i, n) for i, n in enumerate(graph.node) if n.op_type == "Sub" and n.input[1] in fired]
        for number, (place, node) in enumerate(subs):
            share = onnx.helper.make_node("Mul", [node.input[1], "share"], [f"share_{number}"])
            node.input[1] = f"share_{number}"
            graph.node.insert(place + number, share)
    else:
        old, new = (DECAY, 0.5) if fault == "another decay" else (THRESHOLD, 1.0)
        for name in scalars(old):
            changed(name, lambda value: np.full_like(value, new))
    onnx.save(model, file)


def _in_pt2(file: Path, fault: str) -> None:
    program = torch.export.load(str(file))
    weights, nodes = program.state_dict, list(program.graph.nodes)
    aten = torch.ops.aten
    if fault == "a wrong bias":
        name = next(name for name in weights if name.endswith("fc.bias"))
        weights[name].data.copy_(torch.from_numpy(_other_bias(weights[name].detach().numpy())))
    elif fault == "a swapped channel":
        name = next(name for name in weights if name.endswith("layer1.0.conv2.weight"))
        weights[name].data.copy_(torch.from_numpy(_swapped(weights[name].detach().numpy())))
    for node in nodes:
        if fault == "another reset" and node.target is aten.rsub.Scalar:
            node.args = (*node.args, 0.8)  # 1 - 0.8 spikes
        if fault == "another decay" and node.target is aten.mul.Tensor and node.args[1] == DECAY:
            node.args = (node.args[0], 0.5)
        if fault == "another threshold" and node.target is aten.sub.Tensor and node.args[1] == THRESHOLD:
            node.args = (node.args[0], 1.0)
    torch.export.save(program, str(file))


def _in_nir(file: Path, fault: str) -> None:
    import h5py

    with h5py.File(file, "a") as written:
        nodes = written["node/nodes"]
        neurons = [node for node in nodes.values() if "tau" in node]
        if fault == "a wrong bias":
            nodes["fc/bias"][...] = _other_bias(nodes["fc/bias"][()])
        elif fault == "a swapped channel":
            nodes["layer1_0_conv2/weight"][...] = _swapped(nodes["layer1_0_conv2/weight"][()])
        for node in neurons:
            if fault == "another reset":
                node.create_dataset("v_reset", data=np.full_like(node["v_threshold"][()], 0.2))
            elif fault == "another decay":
                node["tau"][...] *= 1.5
            elif fault == "another threshold":
                node["v_threshold"][...] *= 1.1


def _other_bias(bias: Any) -> Any:
    return bias + np.eye(len(bias), dtype=bias.dtype)[2] / 10


def _swapped(weight: Any) -> Any:
    return weight[[1, 0, *range(2, len(weight))]]


PLANT: dict[str, Callable[[Path, str], None]] = {"onnx": _in_onnx, "pt2": _in_pt2, "nir": _in_nir}
