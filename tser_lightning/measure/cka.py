"""How alike what a layer says at one time step is to what it says at another (supplement, Fig. 2).

Legend: T time step, N image, D features of a layer.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tser_lightning.measure.eval_mode import evaluating
from tser_lightning.measure.firing import named_modules
from tser_lightning.models.student import Student
from tser_lightning.neurons.neuron import Neuron


def linear_cka(features_TND: Tensor) -> Tensor:
    """Compute linear CKA of every step with every step by the unbiased estimator of HSIC: unrelated steps give 0.

    CKA is HSIC(K_s, K_t) / sqrt(HSIC(K_s, K_s) HSIC(K_t, K_t)) with the Gram matrices K = X X^T (Kornblith et al.,
    ICML 2019). Its usual estimator tends to 1 where features are many and images few; that of Song et al. (JMLR 2012),
    which Nguyen et al. (ICLR 2021) use for CKA, does not: with K's diagonal set to zero,

        HSIC = (tr(K L) + 1^T K 1 1^T L 1 / ((N - 1) (N - 2)) - 2 / (N - 2) 1^T K L 1) / (N (N - 3)).

    Args:
        features_TND: Features of the same N images at T steps.

    Returns:
        [T, T] float64 on the CPU, ones on the diagonal; values a little below 0 are possible. NaN with a step at which
        all images have the same features, or whose HSIC with itself is not above 0, and with fewer than 4 images.

    Examples:
        >>> import torch
        >>> features_ND = torch.randn(8, 3)
        >>> turned = torch.stack([features_ND, 2 * features_ND.flip(1)])  # CKA sees neither rotation nor scale
        >>> linear_cka(turned).round(decimals=4).tolist()
        [[1.0, 1.0], [1.0, 1.0]]
    """
    features = features_TND.flatten(2).float()
    images = features.shape[1]
    if images < 4:
        return torch.full((len(features), len(features)), math.nan, dtype=torch.float64)
    centred = features - features.mean(1, keepdim=True)  # HSIC is the same without, but would lose digits
    grams_TNN = (centred @ centred.mT).cpu().double()
    size_T = grams_TNN.diagonal(dim1=1, dim2=2).sum(1)
    grams_TNN.diagonal(dim1=1, dim2=2).zero_()
    sums_TN = grams_TNN.sum(2)
    totals_T = sums_TN.sum(1)
    flat_TM = grams_TNN.flatten(1)
    hsic_TT = flat_TM @ flat_TM.T - 2 / (images - 2) * (sums_TN @ sums_TN.T)
    hsic_TT += totals_T[:, None] * totals_T[None] / ((images - 1) * (images - 2))
    own_T = hsic_TT.diagonal().clone()
    own_T[own_T <= 1e-12 * size_T.square()] = math.nan  # nothing but rounding
    alignment: Tensor = hsic_TT / (own_T[:, None].sqrt() * own_T[None].sqrt())
    return alignment


def step_cka(student: Student, images: Tensor, paths: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Compute unbiased linear CKA between the time steps of each layer of a student.

    Args:
        student: A student; it is run in eval mode.
        images: N static images [N, C, H, W] or frames [T, N, C, H, W], all in one call: some hundreds, as
            the estimate spreads widely with few.
        paths: Modules inside `student.net` whose outputs are compared; they must come after the first neuron. None:
            every neuron.

    Returns:
        [T, T] by path, see `linear_cka`.

    Raises:
        ValueError: A path before the first neuron.

    Examples:
        >>> import torch
        >>> from tser_lightning.models import Student, cnn_small
        >>> from tser_lightning.neurons import LIF
        >>> student = Student(cnn_small(10, 1, activation=LIF), timesteps=4)
        >>> found = step_cka(student, torch.rand(8, 1, 8, 8))
        >>> list(found), found["act1"].shape
        (['act1', 'act2', 'act3'], torch.Size([4, 4]))
    """
    modules = named_modules(student)
    clock = student.clock
    found: dict[str, Tensor] = {}

    def hook(path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def compare(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            assert clock.steps is not None
            output = output.flatten(0, 1) if student.time_first else output
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
