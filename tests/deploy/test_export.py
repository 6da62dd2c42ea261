"""Exports: what is written computes what the student computes, and planted faults are found."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tser_lightning.deploy import export_nir, export_onnx
from tser_lightning.deploy.equivalence import Computed, compared, computed_by, require_equal
from tser_lightning.deploy.nir_interpreter import run_nir
from tser_lightning.deploy.step_model import StepModel
from tser_lightning.deploy.trained import TrainedStudent
from tser_lightning.errors import RunError, UsageError
from tser_lightning.models import TEBN, Network, Student, resnet_small, vgg_small
from tser_lightning.neurons import IF, LIF, MPBN, PLIF
from tser_lightning.tasks.export import prove

IMAGES_BCHW = 2 * torch.randn(40, 2, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    torch.manual_seed(0)  # a fault in one channel shows with most weights, not with all


def trained(net: Network, steps: int = 3) -> TrainedStudent:
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, 0, 1)
            assert module.running_mean is not None
            nn.init.normal_(module.running_mean, 0, 0.1)
    return TrainedStudent(Student(net.eval(), steps), {"num_classes": 5, "shape": [2, 8, 8]}).eval()


def small(neuron: Any = LIF, **settings: Any) -> TrainedStudent:
    return trained(resnet_small(5, 2, neuron, widths=[4, 8], **settings))


@pytest.mark.parametrize("step", [False, True])
def test_onnx_computes_the_same_for_any_batch_and_a_fault_is_found(step: bool, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    student, file = small(PLIF), tmp_path / "student.onnx"
    export_onnx.write_onnx(StepModel(student, IMAGES_BCHW[:2]) if step else student, IMAGES_BCHW[:2], file)
    for images in (IMAGES_BCHW, IMAGES_BCHW[:1]):
        proof = prove(student, images, file, "onnx", step=step)
        assert proof["equal"]
        assert proof["largest_difference"] < 1e-5
        assert set(proof["other_spikes"].values()) == ({None} if step else {0})
    for fault in ("a swapped channel", "another reset", "a wrong bias"):
        _plant(onnx, fault, file, tmp_path / "faulty.onnx")
        found = prove(student, IMAGES_BCHW, tmp_path / "faulty.onnx", "onnx", step=step)
        assert not found["equal"], fault
    with pytest.raises(RunError, match="does not compute what the student computes: 40 of 40 images"):
        require_equal(found, "student.onnx", "onnxruntime")


def _plant(onnx: Any, fault: str, file: Path, faulty: Path) -> None:
    """Write an ONNX file with a fault."""
    model = onnx.load(file)
    weights = {each.name: each for each in model.graph.initializer}
    if fault == "another reset":  # a membrane is multiplied with 1 - spikes: 1.5 - spikes leaves half of it
        fired = {node.output[0] for node in model.graph.node if node.op_type == "Cast"}
        (name,) = {n.input[0] for n in model.graph.node if n.op_type == "Sub" and n.input[1] in fired}
        value = onnx.numpy_helper.to_array(weights[name]) + np.float32(0.5)
    elif fault == "a swapped channel":
        name = next(name for name in weights if name.endswith("layer1.0.conv2.weight"))
        value = onnx.numpy_helper.to_array(weights[name])[[1, 0, 2, 3]]
    else:
        name = next(name for name in weights if name.endswith("fc.bias"))
        value = onnx.numpy_helper.to_array(weights[name]) + np.eye(5, dtype=np.float32)[2] / 10
    weights[name].CopyFrom(onnx.numpy_helper.from_array(np.asarray(value), name))
    onnx.save(model, faulty)


NIR: dict[str, Any] = {
    "a residual network": lambda: small(),
    "IF": lambda: small(IF),
    "a leak that is learnt, and the whole input": lambda: small(lambda c: PLIF(c, decay=0.3, decay_input=False)),
    "pools": lambda: trained(vgg_small(5, 2, LIF)),
}


@pytest.mark.parametrize("name", NIR)
def test_nir_computes_the_same_in_numpy(name: str, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("nir")
    student, file = NIR[name](), tmp_path / "student.nir"
    export_nir.write_nir(student, IMAGES_BCHW[:2], file)
    proof = prove(student, IMAGES_BCHW, file, "nir")
    assert proof["equal"]
    assert proof["largest_difference"] < 1e-4
    assert set(proof["other_spikes"].values()) <= {0, 1}
    with h5py.File(file) as written:
        assert not any("v_reset" in node for node in written["node/nodes"].values())


def _wrong_bias(nodes: Any) -> None:
    nodes["conv1/bias"][0] += 0.2


def _swapped_channels(nodes: Any) -> None:
    weight = nodes["layer1_0_conv2/weight"][()]
    nodes["layer1_0_conv2/weight"][...] = weight[[1, 0, *range(2, len(weight))]]


def _other_leak(nodes: Any) -> None:
    nodes["act1/tau"][...] *= 1.5


def _other_reset(nodes: Any) -> None:
    nodes["act1"].create_dataset("v_reset", data=np.full_like(nodes["act1/v_threshold"][()], 0.5))


@pytest.mark.parametrize("plant", [_wrong_bias, _swapped_channels, _other_leak, _other_reset])
def test_a_fault_in_a_nir_file_is_found(plant: Any, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("nir")
    student, file = small(), tmp_path / "student.nir"
    export_nir.write_nir(student, IMAGES_BCHW[:2], file)
    with h5py.File(file, "a") as written:
        plant(written["node/nodes"])
    assert not prove(student, IMAGES_BCHW, file, "nir")["equal"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small(lambda c: LIF(c, reset="soft")), "reset=soft"),
        (lambda: small(MPBN), "one leak"),
        (lambda: small(norm=lambda c: TEBN(c, 3)), "straight after a convolution"),
        (lambda: small(attention="pfa", attention_timesteps=3), "NIR"),
        (lambda: trained(WithMaximum()), "there is no maximum in it"),
    ],
)
def test_what_nir_does_not_express_is_refused_with_the_reason(make: Any, message: str, tmp_path: Path) -> None:
    pytest.importorskip("nir")
    with pytest.raises(UsageError, match=message):
        export_nir.write_nir(make(), IMAGES_BCHW[:2], tmp_path / "student.nir")
    assert not (tmp_path / "student.nir").exists()


class WithMaximum(Network):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.pool = nn.Conv2d(2, 3, 3), LIF(3), nn.MaxPool2d(2)
        self.fc = nn.Linear(27, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.act(self.conv(x))).flatten(1))  # type: ignore[no-any-return]


class Flattens(Network):
    """Makes one row of each image, in one of the ways that torch has."""

    def __init__(self, flatten: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.act, self.fc = nn.Conv2d(2, 3, 3), LIF(3, v_threshold=0.3), nn.Linear(108, 5)
        self.flatten = flatten

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.flatten(self.act(self.conv(x))))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "flatten",
    [nn.Flatten(), lambda x: x.flatten(1), lambda x: torch.flatten(x, start_dim=1), lambda x: torch.flatten(x, 1, -1)],
)
def test_nir_has_rows_of_images_however_they_were_made(flatten: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    pytest.importorskip("nir")
    student = trained(Flattens(flatten))
    export_nir.write_nir(student, IMAGES_BCHW[:2], tmp_path / "student.nir")
    proof = prove(student, IMAGES_BCHW, tmp_path / "student.nir", "nir")
    assert proof["equal"]
    assert proof["other_spikes"] == {"act": 0}


def test_nir_refuses_other_ways_to_flatten(tmp_path: Path) -> None:
    pytest.importorskip("nir")
    with pytest.raises(UsageError, match="the operation flatten cannot be written"):
        export_nir.write_nir(
            trained(Flattens(lambda x: x.flatten(2).flatten(1))), IMAGES_BCHW[:2], tmp_path / "student.nir"
        )


def test_the_interpreter_convolves_and_pools_as_torch_does(tmp_path: Path) -> None:
    nir = pytest.importorskip("nir")
    x_BCHW = torch.randn(2, 4, 9, 7, dtype=torch.float64)
    conv = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2)).double()
    weight, bias = (each.detach().numpy() for each in conv.parameters())
    node = nir.Conv2d((9, 7), weight, (2, 1), (1, 2), (1, 1), 1, bias)
    pool = nir.AvgPool2d(np.array([3, 3]), np.array([2, 2]), np.array([1, 1]))
    ends = nir.Input({"input": np.array([4, 9, 7])}), nir.Output({"output": np.array([6, 3, 5])})
    nodes = {"input": ends[0], "a": node, "b": pool, "output": ends[1]}
    graph = nir.NIRGraph(nodes, [("input", "a"), ("a", "b"), ("b", "output")], type_check=False)
    nir.write(str(tmp_path / "g.nir"), graph)
    found = run_nir(tmp_path / "g.nir", x_BCHW.numpy(), 1, 1.0)
    expected = F.avg_pool2d(conv(x_BCHW), 3, 2, 1).detach().numpy()
    np.testing.assert_allclose(found.logits[0], expected, rtol=1e-12)


def test_a_comparison_counts_logits_classes_and_spikes() -> None:
    student = small()
    own = computed_by(student, IMAGES_BCHW)
    assert compared(own, own)["equal"]
    assert list(own.spikes) == [path for path, m in student.net.named_modules() if isinstance(m, LIF)]
    other = {path: fired.copy() for path, fired in own.spikes.items()}
    other["act1"][1, 3, :5] ^= True
    found = compared(own, Computed(own.logits, other))
    assert (found["other_spikes"]["act1"], found["other_images"], found["equal"]) == (5, 1, False)
    broken = own.logits.copy()
    broken[:, :, 0] = np.nan
    assert compared(own, Computed(broken, {}))["other_images"] == 40


def test_a_step_model_refuses_what_is_not_the_same_at_every_step() -> None:
    with pytest.raises(UsageError, match="weights of its own for each step"):
        StepModel(small(norm=lambda c: TEBN(c, 3)), IMAGES_BCHW[:2])
    with pytest.raises(UsageError, match="needs the steps that follow"):
        StepModel(small(attention="pfa", attention_timesteps=3), IMAGES_BCHW[:2])


def test_the_task_leaves_proved_files_with_their_cards_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tser_lightning.config.run import compose_run
    from tser_lightning.tasks.run_task import run_task

    place = ["logging.wandb.mode=disabled", "machine.accelerator=cpu", f"machine.runs_dir={tmp_path}"]
    net = ["student=resnet_small", "student.widths=[4,8]", "student.timesteps=2"]
    run_task(compose_run([*place, *net, "loss=ce", "teacher=none", "trainer.epochs=1"]))
    (home,) = tmp_path.glob("digits-*")
    command = [*place[:2], "task=export", f"run={home}", "format=pt2", "export.images=20"]
    result = run_task(compose_run(command))
    names = {"student.pt2", "student_step.pt2"}
    assert {file.name for file in (home / "export").iterdir()} == {
        f"{n}{end}" for n in names for end in ("", ".json", ".md")
    }
    assert result["student.pt2/largest_difference"] == 0
    card = json.loads((home / "export" / "student_step.pt2.json").read_text())
    assert (card["proof"]["images"], card["proof"]["equal"], card["timesteps"]) == (20, True, 2)
    assert card["input"]["mean"] == [0.3055]
    from tser_lightning.deploy import export_pt2

    def spoilt(student: Any, images: Any, file: Path) -> None:
        student.net.fc.bias.data[0] += 1
        write(student, images, file)
        student.net.fc.bias.data[0] -= 1

    write = export_pt2.write_pt2
    monkeypatch.setattr(export_pt2, "write_pt2", spoilt)
    with pytest.raises(RunError, match=r"student\.pt2 does not compute what the student computes"):
        run_task(compose_run(command))
    assert list((home / "export").iterdir()) == []
