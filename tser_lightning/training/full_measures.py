"""All that the paper's figures show of a student, beyond the numbers of `Evaluation`.

Legend: T time step, B image, N images, D features.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tser_lightning.data.batch import Batch
from tser_lightning.data.image_data import ImageData
from tser_lightning.losses.contract import LossContext, keywords_for, needs_of, needs_teacher
from tser_lightning.measure.cka import step_cka
from tser_lightning.measure.energy import energy_mj
from tser_lightning.measure.exit_curve import ExitCurve
from tser_lightning.measure.features import penultimate_features
from tser_lightning.measure.firing import FiringRates
from tser_lightning.measure.gradients import gradient_cosines
from tser_lightning.measure.operation_counter import OperationCounter
from tser_lightning.measure.timesteps import accuracy_at_timesteps
from tser_lightning.models import Student
from tser_lightning.training.evaluation_memory import images_that_fit
from tser_lightning.training.loss_context import heads_of
from tser_lightning.training.teacher import Teacher

COMPARED = 256  # images on which time steps are compared
EMBEDDED = 2000  # images whose features are kept for t-SNE


def full_measures(
    student: Student, teacher: Teacher | None, loss: nn.Module, data: ImageData
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Measure a student on the test split, layer by layer and step by step.

    Args:
        student: A trained student; it is run in eval mode.
        teacher: Its teacher, if there is one.
        loss: What it was trained with; its gradients are compared unless it looks at features, at a moving average,
            at the places of training images, or at a teacher that is not there.
        data: The data set, whose test split is measured.

    Returns:
        `measures`: firing_by_layer, energy_by_layer, early_exit (`ExitCurve`), cka, gradient_cosine ([T][T] by layer),
        full_range (accuracy in percent by T'; static images only), all plain containers. `features`: student [N, D],
        teacher [N, D'] and labels [N].
    """
    device = next(student.parameters()).device
    batches = list(_first(data, _compared(student, data, device)))
    images = torch.cat([batch.images for batch in batches], batches[0].images.ndim - 4).to(device)  # frames: axis 1
    labels_B = torch.cat([batch.labels for batch in batches]).to(device)
    measures = _of_all_images(student, data, device)
    measures["cka"] = {path: matrix.tolist() for path, matrix in step_cka(student, images).items()}
    if _is_of_logits(loss, teacher):
        teacher_BC = None if teacher is None else teacher(images).clone()
        context = _at_the_end(loss, student, teacher)

        def objective(logits_TBC: Tensor) -> Tensor:
            terms = loss(logits_TBC, teacher_BC, labels_B, **context)
            total: Tensor = terms if isinstance(terms, Tensor) else terms.total
            return total

        cosines = gradient_cosines(student, objective, images)
        measures["gradient_cosine"] = {path: matrix.tolist() for path, matrix in cosines.items()}
    if images.ndim == 4:
        curve = accuracy_at_timesteps(student, data.loader("test"))
        measures["full_range"] = {str(steps): accuracy for steps, accuracy in curve.items()}
    return measures, _features(student, teacher, data)


def _is_of_logits(loss: nn.Module, teacher: Teacher | None) -> bool:
    """Tell whether a loss can be asked again, by test images and their logits alone."""
    needs = needs_of(loss)
    alone = teacher is None and needs_teacher(loss)
    return not (alone or needs.observed or needs.ema or needs.indices)


def _at_the_end(loss: nn.Module, student: Student, teacher: Teacher | None) -> dict[str, Any]:
    """Give such a loss the context that it has when the training is done."""
    needs = needs_of(loss)
    given: dict[str, Any] = {"progress": 1.0} if needs.progress else {}
    if needs.heads:
        given["heads"] = heads_of(student, teacher)
    return keywords_for(loss, LossContext(**given))


def _compared(student: Student, data: ImageData, device: torch.device) -> int:
    """Choose the images that are compared: so many that memory holds the graph of their gradients."""
    (few,) = (batch for batch in _first(data, 2))
    return min(
        COMPARED,
        images_that_fit(lambda images: gradient_cosines(student, Tensor.sum, images), few.images.to(device), device),
    )


def _first(data: ImageData, images: int) -> Iterator[Batch]:
    seen = 0
    for batch in data.loader("test"):
        room = images - seen
        if room <= 0:
            return
        pictures = batch.images[:room] if batch.images.ndim == 4 else batch.images[:, :room]
        yield Batch(pictures, batch.labels[:room], batch.indices[:room])
        seen += len(batch.labels)


def _of_all_images(student: Student, data: ImageData, device: torch.device) -> dict[str, Any]:
    curve = ExitCurve()
    with FiringRates(student) as rates, OperationCounter(student) as counter, torch.no_grad():
        student.eval()
        for batch in data.loader("test"):
            curve.update(student(batch.images.to(device)), batch.labels.to(device))
    firing, operations = rates.compute().layers, counter.compute().layers
    return {
        "early_exit": curve.points(),
        "firing_by_layer": {
            path: {"rate": layer.rate, "rate_by_step": list(layer.rate_by_step), "dead_neurons": layer.dead_neurons}
            for path, layer in firing.items()
        },
        "energy_by_layer": {
            path: {
                "energy_mj": energy_mj(layer.paper),
                "energy_folded_mj": energy_mj(layer.folded),
                "ops": layer.paper.ops,
                "acs": layer.paper.ac,
                "macs": layer.paper.mac,
                "input": layer.input,
            }
            for path, layer in operations.items()
        },
    }


def _features(student: Student, teacher: Teacher | None, data: ImageData) -> dict[str, Tensor]:
    batches = list(_first(data, EMBEDDED))
    features_ND, labels_N = penultimate_features(student, batches)
    found = {"student": features_ND, "labels": labels_N}
    if teacher is not None and batches[0].images.ndim == 4:
        found["teacher"] = penultimate_features(teacher.net, batches)[0]
    return {name: value.contiguous() for name, value in found.items()}
