"""Whether different time steps pull a layer in the same direction (supplement, Fig. 1).

Legend: T time step, B image, C class.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tser_lightning.measure.eval_mode import evaluating
from tser_lightning.measure.firing import named_modules
from tser_lightning.models.student import Student
from tser_lightning.neurons.neuron import Neuron


def cosines(gradients_T: Tensor) -> Tensor:
    """Compute the cosine between every two of the T slices of a tensor, each flattened.

    Args:
        gradients_T: [T, ...], e.g. the gradient of the loss at every step.

    Returns:
        [T, T] float64 on the CPU; exactly 1 for slices of equal bits, NaN with a slice of zeros.

    Examples:
        >>> import torch
        >>> cosines(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])).tolist()
        [[1.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0]]
    """
    flat = gradients_T.flatten(1).cpu().double()
    # Sums of products one by one: a matrix product may add in another order on its diagonal.
    products = torch.stack([torch.stack([(a * b).sum() for b in flat]) for a in flat])
    squares_T = products.diagonal()
    return products / (squares_T[:, None] * squares_T[None]).sqrt()


def gradient_cosines(student: Student, objective: Callable[[Tensor], Tensor], images: Tensor) -> dict[str, Tensor]:
    """Compute the cosine between the gradients of different time steps, for each layer of a student.

    The paper leaves the definition open; here G_t is the gradient of the loss with respect to the currents into a layer
    of neurons at step t, over the whole batch. For vanilla KD, whose loss sees the mean of the logits, it is the same
    at every step at the logits, cosine 1, and differs further down because the neurons' states do.

    Args:
        student: A student; it is run in eval mode, and its parameters' gradients are left alone.
        objective: Maps logits_TBC to the loss, a scalar, e.g. `lambda z: loss(z, teacher_BC, labels_B).total`.
            Tensors that it uses must not come from inference mode (clone them).
        images: Static images [B, C, H, W] or frames [T, B, C, H, W].

    Returns:
        [T, T] by the path of each layer of neurons inside `student.net`, in the order of the network, then of the
        "logits"; see `cosines`.

    Examples:
        >>> import torch
        >>> from tser_lightning.models import Student, cnn_small
        >>> from tser_lightning.neurons import LIF
        >>> student = Student(cnn_small(10, 1, activation=LIF), timesteps=4)
        >>> found = gradient_cosines(student, lambda z_TBC: z_TBC.mean(0).square().sum(), torch.rand(2, 1, 8, 8))
        >>> list(found), bool((found["logits"] == 1).all())  # a loss of the mean pulls all steps alike
        (['act1', 'act2', 'act3', 'logits'], True)
    """
    currents: dict[str, Tensor] = {}
    neurons = {path: module for path, module in named_modules(student).items() if isinstance(module, Neuron)}
    handles = [neuron.register_forward_pre_hook(_keep(path, currents)) for path, neuron in neurons.items()]
    try:
        with evaluating(student), torch.inference_mode(False), torch.enable_grad():
            logits_TBC = student(images.clone())  # one made in inference mode could not be used
            gradients = torch.autograd.grad(objective(logits_TBC), [*currents.values(), logits_TBC], allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    steps = len(logits_TBC)
    shaped = {path: g.unflatten(0, (steps, -1)) for path, g in zip(currents, gradients, strict=False) if g is not None}
    return {path: cosines(gradient) for path, gradient in shaped.items()} | {"logits": cosines(gradients[-1])}


def _keep(path: str, currents: dict[str, Tensor]) -> Callable[[Neuron, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    def keep(neuron: Neuron, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # One image for all steps becomes one per step, or its gradient would be their sum.
        currents[path] = neuron.fold(neuron.unfold(args[0]))
        return (currents[path],)

    return keep
