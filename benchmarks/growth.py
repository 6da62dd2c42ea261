"""How time and memory of a student's step grow with T and with the batch, and how fast images arrive.

Both are given per image and step of the student, so that no growth is a flat column; memory is the rise of the peak of
a fresh process (`memory`). The pipeline is compared with torchvision's usual way, image by image in a DataLoader, with
the same transforms, in this process.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.memory import fresh
from benchmarks.peers import student
from benchmarks.rounds import DEVICE, ON_GPU, ROUNDS, report, start, times
from tser_lightning.data.synthetic import Synthetic

IMAGES = int(os.environ.get("IMAGES", "2048"))
STEPS = [int(steps) for steps in os.environ.get("T", "1,2,3,4,5,6,7,8").split(",")]
BATCHES = [int(batch) for batch in os.environ.get("BATCH", "2,4,8,16").split(",")]
OURS, PEER = f"ours, {'triton' if ON_GPU else 'eager'} fused nhwc", "spikingjelly 2.0.0"


def backward(name: str, steps: int, batch: int) -> Callable[[], object]:
    """Make forward and backward of a student."""
    model, images = student(name, steps), torch.randn(batch, 3, 32, 32, device=DEVICE)
    return lambda: model(images).square().sum().backward()


class ImageByImage(Dataset[tuple[Tensor, int]]):
    """Torchvision's transforms of PIL images."""

    def __init__(self, images: np.ndarray[Any, Any], auto: bool) -> None:
        from PIL import Image
        from torchvision import transforms

        self.images, self.open = images, Image.fromarray
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                *([transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10)] if auto else []),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * 3, [0.25] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Give one augmented image and a label."""
        return self.transform(self.open(self.images[index])), 0


def pipeline(auto: bool) -> list[dict[str, Any]]:
    """Images per second of one epoch, with crop and flip, and AutoAugment if wanted."""
    augment = {"crop": 4, "flip": True, "auto": "cifar10" if auto else None}
    ours = Synthetic(10, (3, 32, 32), train_images=IMAGES, test_images=8, batch_size=128, augment=augment)
    loader = ours.loader("train", device=DEVICE)
    raw = np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), np.uint8)
    peer = DataLoader(ImageByImage(raw, auto), batch_size=128, shuffle=True)
    found = times({"ours": lambda: list(loader), "torchvision": lambda: list(peer)})
    what = "crop, flip, AutoAugment" if auto else "crop, flip"
    return [
        {"what": f"data, {what}: {name}", "images/s": IMAGES / t, "of torchvision": found["torchvision"] / t}
        for name, t in found.items()
    ]


def main() -> None:
    """Measure and report."""
    start()
    rows: list[dict[str, Any]] = []
    middle = STEPS[len(STEPS) // 2], BATCHES[len(BATCHES) // 2]
    for steps, batch in [*((steps, middle[1]) for steps in STEPS), *((middle[0], batch) for batch in BATCHES)]:
        found = times({name: backward(name, steps, batch) for name in (OURS, PEER)}, rounds=min(ROUNDS, 3))
        sizes = {name: fresh(name, steps, batch)["peak MiB"] for name in (OURS, PEER)}
        rows.append(
            {
                "what": f"T={steps}, batch {batch}",
                "ms per image and step": 1e3 * found[OURS] / steps / batch,
                "MiB per image and step": sizes[OURS] / steps / batch,
                "time of spikingjelly": found[OURS] / found[PEER],
                "memory of spikingjelly": sizes[OURS] / sizes[PEER],
            }
        )
    report("growth", "Growth over T and batch; data pipeline", rows + pipeline(auto=False) + pipeline(auto=True))


if __name__ == "__main__":
    main()
