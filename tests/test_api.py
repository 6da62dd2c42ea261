import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tser_lightning as tl
from tser_lightning.errors import UsageError
from tser_lightning.losses import CrossEntropy, DistillationLoss, Entropy, KLDivergence
from tser_lightning.neurons import LIF


def test_names_build_what_the_classes_build() -> None:
    torch.manual_seed(0)
    student_TBC, teacher_BC, labels_B = torch.randn(3, 4, 5), torch.randn(4, 5), torch.tensor([0, 1, 2, 3])
    named = tl.build_loss("tser", alpha=0.3, tau=2.0, lam=0.1)(student_TBC, teacher_BC, labels_B)
    terms = {"ce": CrossEntropy(0.7), "kl": KLDivergence(0.3, tau=2.0), "entropy": Entropy(-0.1)}
    made = DistillationLoss(terms)(student_TBC, teacher_BC, labels_B)
    torch.testing.assert_close(named.total, made.total)
    assert set(named.parts) == {"ce", "kl", "entropy"}


def test_a_student_and_its_teacher_fit_together() -> None:
    student = tl.build_student("resnet_small", num_classes=7, in_channels=1, timesteps=3, widths=[4, 8])
    teacher = tl.build_teacher("resnet_small", num_classes=7, in_channels=1, weights=None, widths=[4, 8])
    images = torch.rand(2, 1, 8, 8)
    assert student(images).shape == (3, 2, 7)
    assert teacher(images).shape == (2, 7)
    student.net.load_state_dict(teacher.net.state_dict())


def test_a_students_neuron_and_norm_take_settings_too() -> None:
    student = tl.build_student(
        "resnet18", neuron={"name": "lif", "decay_input": False}, norm={"name": "bn", "eps": 0.1}
    )
    neurons = [module for module in student.modules() if isinstance(module, LIF)]
    assert neurons
    assert not any(neuron.spec.decay_input for neuron in neurons)
    norms = [module for module in student.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    assert all(module.eps == 0.1 for module in norms)
    with pytest.raises(UsageError, match=r'neuron=\{"name": "lif", "decay_input": False\}'):
        tl.build_student("resnet18", decay_input=False)


def test_a_neuron_alone_takes_time_first() -> None:
    neuron = tl.build_neuron("lif", decay=0.5, decay_input=True)
    spikes = neuron(torch.tensor([[1.0, 2.0], [1.5, 0.0], [4.0, 0.0]]))
    # Eq. 2 by hand: v = 0.5, 1.0 (fires), 2.0 (fires) and 1.0 (fires), 0, 0
    assert spikes.tolist() == [[0, 1], [1, 0], [1, 0]]


def test_wrong_names_and_settings_are_mistakes() -> None:
    for wrong in (
        lambda: tl.build_loss("tserr"),
        lambda: tl.build_loss("tser", lamda=1.0),
        lambda: tl.build_student("resnet18", timesteps=0),
        lambda: tl.build_teacher("resnet34", weights="absent.pt"),
        lambda: tl.train("digitz"),
    ):
        with pytest.raises(UsageError):
            wrong()


def test_only_the_public_names_are_there() -> None:
    assert dir(tl) == sorted([*tl.__all__, "__version__"])
    assert tl.__version__ == importlib.metadata.version("tser-lightning")
    with pytest.raises(AttributeError, match="nothing"):
        _ = tl.nothing


SCRIPT = """
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tser_lightning as tl
from tser_lightning.losses import TSER, LossTerms


class Mine(nn.Module):
    needs_teacher = True

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> Tensor:
        assert teacher_BC is not None
        return (student_TBC.mean(0) - teacher_BC).square().mean()


class Doubled(TSER):
    def forward(
        self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor, **asked: Any
    ) -> LossTerms:
        terms = super().forward(student_TBC, teacher_BC, labels_B, **asked)
        return terms._replace(total=2 * terms.total)


student = tl.build_student("resnet18", num_classes=100, timesteps=4)
teacher = tl.build_teacher("resnet34", num_classes=100, weights=None)
loss = tl.build_loss("tser", alpha=0.5, tau=5.0, lam=0.01)
images_BCHW, labels_B = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
reveal_type(student(images_BCHW))
reveal_type(teacher(images_BCHW))
reveal_type(Doubled()(student(images_BCHW), teacher(images_BCHW), labels_B).parts)
reveal_type(tl.build_neuron("lif", decay=0.5)(torch.rand(4, 2, 3)))
reveal_type(tl.train("digits", overrides=["loss=tser"]))
trained = tl.load_student(Path("runs", "student.safetensors"))
trained.timesteps = 8
reveal_type(trained(images_BCHW))
reveal_type([logits_BC for logits_BC in trained.stream(images_BCHW)])
loss(student(images_BCHW), teacher(images_BCHW), labels_B)
Mine()(student(images_BCHW), teacher(images_BCHW), labels_B)
"""
TENSOR = "torch._tensor.Tensor"
REVEALED = [TENSOR, TENSOR, f"dict[str, {TENSOR}]", "Any", "dict[str, Any]", TENSOR, f"list[{TENSOR}]"]


@pytest.mark.slow
def test_a_users_script_is_typed_for_a_strict_checker(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "script.py"]
    here = os.environ | {"MYPYPATH": str(Path(__file__).parents[1])}
    ended = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    assert re.findall(r'Revealed type is "(.*)"', ended.stdout) == REVEALED
