"""Where numbers stop being finite: one more run of the student on the batch that showed it."""

import torch
from torch import Tensor, nn

from tser_lightning.neurons.clock import OverTime


@torch.no_grad()
def first_nonfinite(student: nn.Module, images: Tensor) -> str | None:
    """Name what first is NaN or infinite, in the order of computation.

    Args:
        student: Images to logits_TBC; run once more, in the mode that it is in.
        images: A batch, [B,C,H,W] or [T,B,C,H,W].

    Returns:
        E.g. "the images", "the weights of net.layer1.0.conv1" or "the output of net.layer2.0 at step 3 of 4"; None if
        everything up to the logits is finite.
    """
    if not images.isfinite().all():
        return "the images"
    for name, parameter in student.named_parameters():
        if not parameter.isfinite().all():
            return f"the parameter {name}"
    timesteps = int(getattr(student, "timesteps", 1))
    found: list[str] = []

    def listen(name: str, module: nn.Module) -> None:
        def look(_: nn.Module, inputs: object, output: object) -> None:
            if not found and isinstance(output, Tensor) and not output.isfinite().all():
                found.append(f"the output of {name}{_step(output, timesteps, images)}")

        hooks.append(module.register_forward_hook(look))

    hooks: list[torch.utils.hooks.RemovableHandle] = []
    for name, module in student.named_modules():
        if not any(module.children()) or isinstance(module, OverTime):
            listen(name, module)
    try:
        student(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _step(output: Tensor, timesteps: int, images: Tensor) -> str:
    """Name the first time step that is not finite of [T*B, ...]; before time begins there is none."""
    size = images.shape[-4]
    if timesteps == 1 or output.shape[0] != timesteps * size:
        return ""
    bad_T = ~output.reshape(timesteps, -1).isfinite().all(1)
    return f" at step {int(bad_T.nonzero()[0]) + 1} of {timesteps}"
