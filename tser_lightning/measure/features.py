"""What the classifier gets to see: penultimate features, e.g. for t-SNE (Fig. 5).

Legend: T time step, B image, N images of all batches, D features.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from tser_lightning.measure.eval_mode import evaluating
from tser_lightning.measure.firing import named_modules


def penultimate_features(
    model: nn.Module, batches: Iterable[Sequence[Tensor]], path: str | None = None
) -> tuple[Tensor, Tensor]:
    """Collect what goes into the classifier, for all images.

    Args:
        model: A student or an ANN; it is run in eval mode.
        batches: (images, labels, ...) each, moved to the model's device.
        path: The classifier, inside `student.net`: what goes into it is taken. None: the network's own `penultimate`,
            or else its last linear layer.

    Returns:
        features_ND on the CPU, a student's averaged over time, and labels_N.

    Raises:
        ValueError: The network has no linear layer.

    Examples:
        >>> import torch
        >>> from tser_lightning.models import Student, cnn_small
        >>> from tser_lightning.neurons import LIF
        >>> student = Student(cnn_small(10, 1, activation=LIF), timesteps=4)
        >>> features_ND, labels_N = penultimate_features(student, [(torch.rand(3, 1, 8, 8), torch.tensor([3, 7, 7]))])
        >>> features_ND.shape, labels_N.tolist()  # 32 channels on a grid of 2x2
        (torch.Size([3, 128]), [3, 7, 7])
    """
    classifier = classifier_of(model, path)
    device = next(model.parameters()).device
    seen: list[Tensor] = []
    labels: list[Tensor] = []
    first = 2 if getattr(model, "time_first", False) else 1  # axis of the features
    handle = classifier.register_forward_pre_hook(lambda _, args: seen.append(args[0].flatten(0, first - 1).flatten(1)))
    try:
        with evaluating(model), torch.no_grad():
            for images, labels_B, *_ in batches:
                model(images.to(device))
                seen[-1] = seen[-1].float().unflatten(0, (-1, len(labels_B))).mean(0).cpu()
                labels.append(labels_B.cpu())
    finally:
        handle.remove()
    return torch.cat(seen), torch.cat(labels)


def classifier_of(model: nn.Module, path: str | None = None) -> nn.Module:
    """Give the module that turns penultimate features into logits.

    Args:
        model: A student or an ANN.
        path: Where it is inside `student.net`. None: the network's own `penultimate`, or else its last linear layer.

    Raises:
        ValueError: The network has no linear layer.
    """
    modules = named_modules(model)
    path = path or getattr(modules[""], "penultimate", None)
    linear = [each for each, module in modules.items() if isinstance(module, nn.Linear)]
    if path is None and not linear:
        raise ValueError("this network has no linear layer: say which module is its classifier")
    return modules[path or linear[-1]]
