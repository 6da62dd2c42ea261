"""Write a finished run's student for other runtimes, and prove that the file computes what the student computes."""

import copy
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor

from tser_lightning.atomic_io import write_bytes, write_json
from tser_lightning.config.run import Run
from tser_lightning.deploy import export_nir, export_onnx, export_pt2
from tser_lightning.deploy.equivalence import Computed, compared, computed_by, require_equal, seen_at
from tser_lightning.deploy.load import load_student
from tser_lightning.deploy.nir_interpreter import run_nir
from tser_lightning.deploy.step_model import StepModel
from tser_lightning.deploy.trained import TrainedStudent
from tser_lightning.errors import UsageError
from tser_lightning.measure.firing import named_modules
from tser_lightning.neurons.neuron import Neuron
from tser_lightning.records.run_directory import RunDirectory
from tser_lightning.registry import build
from tser_lightning.tasks.evaluate import received
from tser_lightning.tasks.hub_folder import write_hub_folder
from tser_lightning.tasks.run_parts import use_cpu

log = logging.getLogger("tser_lightning")
NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "nir": ("nir", "h5py"), "pt2": ()}
RUNNERS = {
    "onnx": "onnxruntime",
    "pt2": "torch.export's loader (torch itself: no other runner of PT2 is on every machine)",
    "nir": "a NumPy interpreter of NIR",
}
NOT_EXPRESSED = {
    "onnx": ["how the images are normalised: see the input", "surrogate gradients: the file is for inference"],
    "pt2": ["how the images are normalised: see the input", "surrogate gradients: the file is for inference"],
    "nir": [
        "how the images are normalised: see the input",
        "T and the mean of the outputs over the steps: the runner shows the image so often, or one frame of a "
        "recording after the other, and averages",
        "how long a step is: 1e-4 s here (LIF; the r of IF counts a step)",
        "whether a membrane at its threshold fires: it does here",
        "the value that a spike resets a membrane to: 0 here, which nir 1.0.4 has no field for",
    ],
}


def export(run: Run) -> dict[str, Any]:
    """Write the file of a format, its card and its page; nothing is left of a file that computes something else.

    Returns:
        Where the files are, and what the proof measured. `format=hub` hands over the student itself.

    Raises:
        UsageError: The network cannot be written in this format; it says why.
        RunError: The written file does not compute what the student computes.
    """
    use_cpu(run.config)
    form, home = run.config["format"], RunDirectory(run.config["run"])
    if form == "hub":
        return write_hub_folder(home, run.config["output"], run.config["export"]["license"])
    _check_installed(form)
    student = load_student(home.path)
    images = _held_out(home, run.config["export"]["images"])
    folder = Path(run.config["output"] or home.path / "export")
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"student.{form}", *([f"student_step.{form}"] if run.config["export"]["step"] and form != "nir" else [])]
    for name in names:
        for old in folder.glob(f"{name}*"):
            old.unlink()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix=".unproved-", dir=folder) as beside:
        for name in names:
            proof = _proved(student, images, Path(beside, name), form, step="_step" in name)
            card = _card(student, Path(beside, name), form, proof, step="_step" in name)
            write_json(Path(beside, f"{name}.json"), card)
            page = _page(card)
            write_bytes(Path(beside, f"{name}.md"), page.encode())
            result |= {name: str(folder / name), f"{name}/largest_difference": proof["largest_difference"]}
            Console().print(Markdown(page))
        for file in Path(beside).iterdir():
            os.replace(file, folder / file.name)
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    log.info("exported to %s", folder)
    return result


def _check_installed(form: str) -> None:
    missing = [name for name in NEEDS[form] if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            what=f"format={form} needs {', '.join(missing)}",
            why="they write and run the file, and are installed with the extra `export` alone",
            fix="pip install 'tser-lightning[export]'",
        )


def _held_out(home: RunDirectory, count: int) -> Tensor:
    """Images of the test split, or frames of its recordings, spread over all of it."""
    data = build.build_data(received(home.path / "config.yaml"))
    data.verify()
    batches = [batch.images for batch in data.loader("test")]
    images = torch.cat(batches, batches[0].ndim - 4)
    there = images.shape[images.ndim - 4]
    return images.index_select(images.ndim - 4, torch.linspace(0, there - 1, min(count, there)).round().long())


def _proved(student: TrainedStudent, images: Tensor, file: Path, form: str, step: bool) -> dict[str, Any]:
    """Write a file, run what was written, and compare."""
    axis = images.ndim - 4
    few = images.narrow(axis, 0, min(2, images.shape[axis]))
    model = StepModel(student, seen_at(few, 0)) if step else student
    if form == "nir":
        export_nir.write_nir(student, seen_at(few, 0), file)
    elif form == "onnx":
        export_onnx.write_onnx(model, few, file)
    else:
        export_pt2.write_pt2(model, few, file)
    proof = prove(student, images, file, form, step=step)
    require_equal(proof, file.name, RUNNERS[form].partition(" (")[0])
    return proof


def prove(student: TrainedStudent, images: Tensor, file: Path, form: str, *, step: bool = False) -> dict[str, Any]:
    """Run a written file beside the student; see `deploy.equivalence.compared`."""
    steps, first_BCHW = student.timesteps if images.ndim == 4 else len(images), seen_at(images, 0)[:2]
    if form == "nir":  # both in float64, so that only the weights are rounded
        wide = copy.deepcopy(student).double()
        paths = {export_nir.node_name(path): path for path in computed_by(wide, first_BCHW.double()).spikes}
        found = run_nir(file, images.numpy(), steps, export_nir.STEP_SECONDS)
        found = Computed(found.logits, {paths.get(name, name): fired for name, fired in found.spikes.items()})
        return compared(computed_by(wide, images.double()), found)
    expected = computed_by(student, images)
    neurons = list(expected.spikes)
    if step and form == "onnx":
        return compared(expected, export_onnx.run_onnx_steps(file, images, steps))
    if step:
        shapes = StepModel(student, first_BCHW).shapes
        return compared(expected, export_pt2.run_pt2_steps(file, images, steps, shapes))
    run = export_onnx.run_onnx if form == "onnx" else export_pt2.run_pt2
    return compared(expected, run(file, images, steps, neurons))


def _card(student: TrainedStudent, file: Path, form: str, proof: Mapping[str, Any], step: bool) -> dict[str, Any]:
    known, frames = student.card, student.card.get("frames")
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy", *NEEDS[form])}
    layers = [path for path, module in named_modules(student).items() if isinstance(module, Neuron)]
    return {
        "file": file.name,
        "format": form,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "model": "one step: images and states to logits and states; zeros at rest" if step else "all steps",
        "timesteps": student.timesteps,
        "input": {
            "images": [*([frames] if frames and form != "nir" and not step else []), "batch", *known["shape"]],
            "scale": f"{'event counts' if frames else 'bytes'} divided by 255, then minus mean, divided by std",
            "mean": known.get("mean") or [],
            "std": known.get("std") or [],
        },
        "output": ["batch", known["num_classes"]]
        if step or form == "nir"
        else [student.timesteps, "batch", known["num_classes"]],
        "classes": student.classes,
        "layers": layers,
        "proof": {"runner": RUNNERS[form], **proof},
        "versions": {"tser-lightning": importlib.metadata.version("tser-lightning"), **versions},
        "not_expressed": NOT_EXPRESSED[form],
    }


def _page(card: Mapping[str, Any]) -> str:
    proof = card["proof"]
    spikes = [
        f"- {path}: {'not shown by this file' if count is None else count}"
        for path, count in proof["other_spikes"].items()
    ]
    lines = [
        f"# {card['file']}",
        "",
        f"A spiking student, {card['model']}; T = {card['timesteps']}. The mean of the outputs over T classifies.",
        "",
        f"- input: {card['input']['images']}, {card['input']['scale']}",
        f"- mean {card['input']['mean']}, std {card['input']['std']}",
        f"- output: {card['output']}",
        f"- SHA-256: {card['sha256']}",
        "",
        "## Proof",
        "",
        f"{proof['images']} held-out images, run by {proof['runner']}.",
        "",
        f"- largest difference of a logit: {proof['largest_difference']:.3g} (of {proof['largest_logit']:.3g})",
        f"- images of another class: {proof['other_classes']}",
        f"- images with another spike or logit: {proof['other_images']}",
        "",
        "Spikes that differ, by layer:",
        "",
        *spikes,
        "",
        "## Not expressed",
        "",
        *(f"- {each}" for each in card["not_expressed"]),
        "",
        "## Versions",
        "",
        *(f"- {name} {version}" for name, version in card["versions"].items()),
    ]
    return "\n".join(lines) + "\n"
