"""ONNX files: the model of all steps, and that of one step with its states, run by onnxruntime for the proof."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tser_lightning.deploy.equivalence import Array, Computed, seen_at
from tser_lightning.deploy.step_model import StepModel
from tser_lightning.models import Student

BATCH = torch.export.Dim("batch", min=1, max=1 << 16)


def exported(model: Student | StepModel, images: Tensor) -> torch.export.ExportedProgram:
    """Trace a model as a program of torch's own operators, for any batch size.

    Args:
        model: Of all steps, or of one.
        images: [B, C, H, W]; frames [T, B, C, H, W] for a student of recordings, whose T stays.
    """
    images = images.contiguous()  # a part of a larger tensor would tie the batch size to that one's
    if isinstance(model, StepModel):
        frame_BCHW = seen_at(images, 0)
        states = model.at_rest(frame_BCHW)
        shapes: Any = ({0: BATCH}, [{0: BATCH} for _ in states])
        return torch.export.export(model, (frame_BCHW, states), dynamic_shapes=shapes, strict=False)
    return torch.export.export(model, (images,), dynamic_shapes=({images.ndim - 4: BATCH},), strict=False)


def write_onnx(model: Student | StepModel, images: Tensor, file: Path) -> None:
    """Write a student, or one step of it, as an ONNX file.

    Its input is `images`, its output `logits`; one step has a state for each neuron besides, `state.PATH` in and
    `PATH.next` out.

    Args:
        model: In eval mode: of all time steps, or a `StepModel`.
        images: [B, C, H, W], or frames [T, B, C, H, W], for the shapes; what is written takes any
            number of images.
        file: What is written, e.g. `Path("student.onnx")`.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import onnxruntime
        >>> import torch
        >>> import tser_lightning as tl
        >>> student = tl.build_student("cnn_small", in_channels=1, timesteps=2).eval()
        >>> with TemporaryDirectory() as folder:
        ...     write_onnx(student, torch.rand(2, 1, 8, 8), Path(folder, "student.onnx"))
        ...     session = onnxruntime.InferenceSession(Path(folder, "student.onnx"))
        >>> session.run(["logits"], {"images": torch.rand(5, 1, 8, 8).numpy()})[0].shape
        (2, 5, 10)
    """
    names = [f"state.{name}" for name in model.names] if isinstance(model, StepModel) else []
    program = torch.onnx.export(
        exported(model, images),
        dynamo=True,
        input_names=["images", *names],
        output_names=["logits", *(f"{name}.next" for name in names)],
        verbose=False,
    )
    assert program is not None
    program.save(str(file))


def run_onnx(file: Path, images: Tensor, steps: int, neurons: list[str]) -> Computed:
    """Run the model of all steps in onnxruntime.

    Args:
        file: The ONNX file.
        images: Normalised images or frames.
        steps: T, the time steps.
        neurons: Their paths in the order in which they compute: each compares its membrane with its threshold once a
            step, and what comes of it is its spikes.
    """
    import onnx
    import onnxruntime

    model = onnx.load(str(file))
    fired = [node.output[0] for node in model.graph.node if node.op_type == "GreaterOrEqual"]
    shown = fired if len(fired) == steps * len(neurons) else []
    for name in shown:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.BOOL, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits_TBC, *spikes = session.run(["logits", *shown], {"images": images.numpy()})
    return Computed(np.asarray(logits_TBC), by_neuron([np.asarray(each) for each in spikes], steps, neurons))


def by_neuron(spikes: list[Array], steps: int, neurons: list[str]) -> dict[str, Array]:
    """Sort what neurons compared, one [B, ...] a step, into [T, B, M] for each."""
    sorted_ = {path: spikes[at * steps : (at + 1) * steps] for at, path in enumerate(neurons)} if spikes else {}
    return {path: np.stack([each.reshape(len(each), -1) for each in some]) for path, some in sorted_.items()}


def run_onnx_steps(file: Path, images: Tensor, steps: int) -> Computed:
    """Run the model of one step in onnxruntime, T times, from zeros."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    given = {each.name: np.zeros((len(seen_at(images, 0)), *each.shape[1:]), np.float32) for each in inputs[1:]}
    logits = []
    for step in range(steps):
        outputs = session.run(None, {**given, inputs[0].name: seen_at(images, step).numpy()})
        logits.append(np.asarray(outputs[0]))
        given |= dict(zip((each.name for each in inputs[1:]), outputs[1:], strict=True))
    return Computed(np.stack(logits), {})
