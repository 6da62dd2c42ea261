"""How alike what a layer says at one time step is to what it says at another (supplement, Fig. 2).

Legend: T time step, N image, D features of a layer.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tser_lightning.measure.evaluating import evaluating
from tser_lightning.measure.firing import named_modules
from tser_lightning.models.student import Student
from tser_lightning.neurons.neuron import Neuron


def linear_cka(features_TND: Tensor) -> Tensor:
    """Linear centred kernel alignment of every step with every step (Kornblith et al., ICML 2019).

    With centred columns, ||X_s^T X_t||_F^2 / (||X_s^T X_s||_F ||X_t^T X_t||_F), by the Gram matrices X X^T, which are
    the small ones here.

    Args:
        features_TND: Features of the same N images at T steps.

    Returns:
        [T, T] float64 on the CPU, ones on the diagonal; NaN with a step at which all images have the same features.
    """
    centred = features_TND.flatten(2).float()
    centred = centred - centred.mean(1, keepdim=True)
    grams_TM = (centred @ centred.mT).cpu().double().flatten(1)
    norms_T = grams_TM.norm(dim=1)
    alignment: Tensor = (grams_TM @ grams_TM.T) / (norms_T[:, None] * norms_T[None])
    return alignment


def step_cka(student: Student, images: Tensor, paths: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Linear CKA between the time steps of each layer.

    Args:
        student: A student; it is run in eval mode.
        images: N static images [N, C, H, W] or frames [T, N, C, H, W], all in one call: some hundreds, and more than a
            few, as CKA of N images with far more features than images tends to 1.
        paths: Modules inside `student.net` whose outputs are compared; they must come after the first neuron. None:
            every neuron.

    Returns:
        [T, T] by path, see `linear_cka`.

    Raises:
        ValueError: A path before the first neuron.
    """
    modules = named_modules(student)
    clock = student.clock
    found: dict[str, Tensor] = {}

    def hook(path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def compare(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            assert clock.steps is not None
            if clock.steps > 1 and len(output) == clock.images:
                raise ValueError(f"{path!r} comes before the first neuron: it says the same at every time step")
            found[path] = linear_cka(output.unflatten(0, (clock.steps, -1)))

        return compare

    chosen = [p for p, module in modules.items() if isinstance(module, Neuron)] if paths is None else paths
    handles = [modules[path].register_forward_hook(hook(path)) for path in chosen]
    try:
        with evaluating(student), torch.no_grad():
            student(images)
    finally:
        for handle in handles:
            handle.remove()
    return found
