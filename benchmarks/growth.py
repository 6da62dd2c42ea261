"""How a student's step grows with T and with the batch, and how fast images arrive.

Time is given per image and step of the student, so that no growth is a flat column. The pipeline is compared with
torchvision's usual way, image by image in a DataLoader, with the same crop and flip, in this process.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers import student
from benchmarks.rounds import report, start, times
from tser_lightning.data.synthetic import Synthetic

IMAGES = 2048
OURS, PEER = "ours, eager fused nhwc", "spikingjelly 2.0.0"


def backward(name: str, steps: int, batch: int) -> Callable[[], object]:
    """Make forward and backward of a student."""
    model, images = student(name, steps), torch.randn(batch, 3, 32, 32)
    return lambda: model(images).square().sum().backward()


class ImageByImage(Dataset[tuple[Tensor, int]]):
    """Torchvision's transforms of PIL images."""

    def __init__(self, images: np.ndarray[Any, Any]) -> None:
        from PIL import Image
        from torchvision import transforms

        self.images, self.open = images, Image.fromarray
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * 3, [0.25] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Give one augmented image and a label."""
        return self.transform(self.open(self.images[index])), 0


def pipeline() -> list[dict[str, Any]]:
    """Images per second of one epoch."""
    ours = Synthetic(
        10, (3, 32, 32), train_images=IMAGES, test_images=8, batch_size=128, augment={"crop": 4, "flip": True}
    )
    loader = ours.loader("train")
    peer = DataLoader(ImageByImage(np.zeros((IMAGES, 32, 32, 3), np.uint8)), batch_size=128, shuffle=True)
    found = times({"ours": lambda: list(loader), "torchvision": lambda: list(peer)})
    return [
        {"what": f"data, {name}", "images/s": IMAGES / t, "of torchvision": found["torchvision"] / t}
        for name, t in found.items()
    ]


def main() -> None:
    """Measure and report."""
    start()
    rows: list[dict[str, Any]] = []
    for steps, batch in [(1, 8), (2, 8), (4, 8), (8, 8), (4, 2), (4, 16)]:
        found = times({name: backward(name, steps, batch) for name in (OURS, PEER)}, rounds=3)
        per = {name: 1e3 * t / steps / batch for name, t in found.items()}
        rows.append(
            {
                "what": f"T={steps}, batch {batch}",
                "ms per image and step": per[OURS],
                "of spikingjelly": per[OURS] / per[PEER],
            }
        )
    report("growth", "Growth over T and batch; data pipeline", rows + pipeline())


if __name__ == "__main__":
    main()
