"""PT2 files: programs of torch's own operators, which run without this package."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from tser_lightning.deploy.equivalence import Array, Computed, seen_at
from tser_lightning.deploy.export_onnx import by_neuron, exported
from tser_lightning.deploy.step_model import StepModel
from tser_lightning.errors import RunError
from tser_lightning.models import Student


def write_pt2(model: Student | StepModel, images: Tensor, file: Path) -> None:
    """Write a student, or one step of it, as a program of torch's own operators: a PT2 file.

    Args:
        model: In eval mode: of all time steps, or a `StepModel`.
        images: [B, C, H, W], or frames [T, B, C, H, W], for the shapes; what is written takes any
            number of images.
        file: What is written, e.g. `Path("student.pt2")`.

    Raises:
        RunError: An operator of the program is not torch's own.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import torch
        >>> import tser_lightning as tl
        >>> student = tl.build_student("cnn_small", in_channels=1, timesteps=2).eval()
        >>> with TemporaryDirectory() as folder:
        ...     write_pt2(student, torch.rand(2, 1, 8, 8), Path(folder, "student.pt2"))
        ...     program = torch.export.load(Path(folder, "student.pt2")).module()
        >>> program(torch.rand(5, 1, 8, 8)).shape
        torch.Size([2, 5, 10])
    """
    program = exported(model, images)
    theirs = sorted({str(node.target) for node in program.graph.nodes if "tser_lightning" in str(node.target)})
    if theirs:
        raise RunError(
            what=f"the program would need {', '.join(theirs)}",
            why="a PT2 file has to run without this package",
            fix="neuron.backend=auto at the training, or format=onnx",
        )
    torch.export.save(program, str(file))


class _Listening(fx.Interpreter):
    """Runs a program and keeps what its neurons compare."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.compared: list[Array] = []

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        result = super().call_function(target, args, kwargs)
        if target is torch.ops.aten.ge.Scalar:
            self.compared.append(result.numpy())
        return result


@torch.no_grad()
def run_pt2(file: Path, images: Tensor, steps: int, neurons: list[str]) -> Computed:
    """Run the model of all steps as it was written; see `export_onnx.run_onnx`."""
    module = torch.export.load(str(file)).module()
    assert isinstance(module, fx.GraphModule)
    listening = _Listening(module)
    logits_TBC = listening.run(images)
    shown = listening.compared if len(listening.compared) == steps * len(neurons) else []
    return Computed(logits_TBC.numpy(), by_neuron(shown, steps, neurons))


@torch.no_grad()
def run_pt2_steps(file: Path, images: Tensor, steps: int, shapes: list[tuple[int, ...]]) -> Computed:
    """Run the model of one step, T times, from zeros."""
    module = torch.export.load(str(file)).module()
    states, logits = [images.new_zeros(len(seen_at(images, 0)), *shape) for shape in shapes], []
    for step in range(steps):
        logits_BC, states = module(seen_at(images, step), states)
        logits.append(logits_BC.numpy())
    return Computed(np.stack(logits), {})
