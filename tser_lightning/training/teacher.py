"""The frozen ANN that a student learns from: its parameters get no gradient, and it stays in evaluation mode.

Legend: T time step, B image, C class, H, W.
"""

import hashlib
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from tser_lightning.errors import UsageError


class Teacher(nn.Module):
    """A network that never learns: no gradient, eval mode whatever `train()` says.

    Args:
        net: images [B,C,H,W] to logits [B,C].

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> teacher = Teacher(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
        >>> teacher(torch.rand(2, 1, 8, 8)).requires_grad, teacher.train().training
        (False, False)
    """

    __call__: Callable[..., Tensor]  # to a type checker: nn.Module says Any

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Images [B,C,H,W], or frames [T,B,C,H,W] whose mean the teacher sees, to logits_BC."""
        logits_BC: Tensor = self.net(images.mean(0) if images.ndim == 5 else images)
        return logits_BC

    def fingerprint(self) -> str:
        """Hash its parameters and buffers with SHA-256, as hex."""
        digest = hashlib.sha256()
        for name, value in self.net.state_dict().items():
            digest.update(f"{name} {list(value.shape)} {value.dtype} ".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()


class SingleStep(nn.Module):
    """An ANN in a student's place: one time step, so that a teacher is trained and measured by the same code.

    Args:
        net: images [B,C,H,W] to logits [B,C].

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> SingleStep(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))(torch.rand(2, 1, 8, 8)).shape
        torch.Size([1, 2, 10])
    """

    timesteps = 1

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Give logits_TBC with T = 1."""
        logits_BC: Tensor = self.net(images_BCHW)
        return logits_BC.unsqueeze(0)


def check_teacher(accuracy: float, num_classes: int, name: str) -> None:
    """Refuse a teacher that knows nothing.

    Args:
        accuracy: On images that it was not trained on, in percent.
        num_classes: C; chance is 100/C.
        name: What the message calls the teacher.

    Raises:
        UsageError: Accuracy below twice chance (below 1.2 times for two or three classes).

    Examples:
        >>> check_teacher(97.1, 10, "resnet34.pt")
        >>> try:
        ...     check_teacher(10.0, 10, "resnet34.pt")
        ... except ValueError as error:
        ...     print(str(error).splitlines()[0])
        the teacher resnet34.pt scores 10.0 %, near chance (10.0 %)
    """
    chance = 100.0 / num_classes
    if accuracy < chance * (2.0 if num_classes > 3 else 1.2):
        raise UsageError(
            what=f"the teacher {name} scores {accuracy:.1f} %, near chance ({chance:.1f} %)",
            why="usual causes: another input normalisation (`mean`, `std`), another order of the classes, "
            "weights of another network, a training that was too short or diverged",
            fix="another teacher, or one that is trained on these images: weights=train",
        )
