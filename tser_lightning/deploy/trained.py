"""A trained student with what is known of it: its card, its classes, how it sees images, when it may stop."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from tser_lightning.deploy.early_exit import Exit, Prediction, predict
from tser_lightning.models import Student


class TrainedStudent(Student):
    """A student as `tl.load_student` gives it.

    Attributes:
        card: What lies beside its weights: settings, classes, form and normalisation of the images.
        exit: When it may stop early; None if that was not fitted (`task=predict` does).

    Args:
        student: Its network is taken over and not copied.
        card: As in the attribute `card`; `num_classes` is needed.

    Examples:
        >>> import torch
        >>> import tser_lightning as tl
        >>> student = tl.build_student("cnn_small", num_classes=2, in_channels=1, timesteps=4)
        >>> trained = TrainedStudent(student, {"num_classes": 2, "classes": ["cat", "dog"]}).eval()
        >>> trained.classes, trained.predict(torch.rand(3, 1, 8, 8)).steps.tolist()
        (['cat', 'dog'], [4, 4, 4])
    """

    def __init__(self, student: Student, card: Mapping[str, Any]) -> None:
        super().__init__(student.net, student.timesteps)
        self.card = dict(card)
        self.exit = Exit.read(card["exit"]) if card.get("exit") else None

    @property
    def classes(self) -> list[str]:
        """The names of the classes; their numbers where the data had no names."""
        return [str(name) for name in self.card.get("classes") or range(self.card["num_classes"])]

    def image(self, path: str | Path) -> Tensor:
        """Read an image file as it was seen in training, [1, C, H, W]."""
        from tser_lightning.deploy.inputs import image  # imports torchvision, which a tensor does not need

        return image(path, self.card)

    def predict(self, images: Tensor, *, early: bool = True) -> Prediction:
        """Classify normalised images [B, C, H, W] or event frames [T, B, C, H, W].

        Args:
            images: Normalised images, as `image` reads one, or frames.
            early: Stop as soon as the answer is sure, if an exit was fitted; False: all steps, to the last bit the same
                as the mean of `student(images)`.
        """
        return predict(self, images, self.exit if early else None)
