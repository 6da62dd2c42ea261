"""Folders of images of your own, a network of torchvision as the teacher, a small spiking student.

    python examples/own_images.py

The images are drawn here, so that nothing is downloaded; yours lie in FOLDER/train/CLASS/* and FOLDER/val/CLASS/*.
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image, ImageDraw
from torch import nn
from torchvision.models import resnet18

import tser_lightning as tl
from tser_lightning.data import ImageFolder
from tser_lightning.training import Recipe, SingleStep, Teacher, evaluate_network, fit


def draw_images(folder: Path) -> None:
    """Draw circles and boxes of random places and colours: 60 of each to train on, 20 (val/) to test on."""
    for part, count in (("train", 60), ("val", 20)):
        for name in ("box", "circle"):
            place = folder / part / name
            place.mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (32, 32), "black")
                x, y, red, green, blue = torch.randint(0, 12, (5,)).tolist()
                pen = ImageDraw.Draw(image)
                shape = pen.rectangle if name == "box" else pen.ellipse
                shape((x, y, x + 18, y + 18), fill=(100 + 10 * red, 100 + 10 * green, 100 + 10 * blue))
                image.save(place / f"{number}.png")


if __name__ == "__main__":
    torch.manual_seed(1)
    with TemporaryDirectory() as folder:
        draw_images(Path(folder, "shapes"))
        # python -m tser_lightning task=init data=image_folder data.path=DIR measures the mean and std of yours
        data = ImageFolder(
            Path(folder, "shapes"),
            num_classes=2,
            shape=[3, 32, 32],
            mean=[0.22, 0.22, 0.22],
            std=[0.31, 0.31, 0.31],
            scale=(0.6, 1.0),
            batch_size=12,
        )
        recipe = Recipe(epochs=5, optimizer=partial(torch.optim.AdamW, lr=0.001))
        net: nn.Module = resnet18(weights=None)  # weights="DEFAULT" starts from ImageNet's
        net.fc = nn.Linear(512, data.num_classes)
        fit(SingleStep(net), tl.build_loss("ce"), None, data, Path(folder, "teacher"), recipe=recipe)
        teacher = Teacher(net)
        recipe = Recipe(epochs=5, optimizer=partial(torch.optim.AdamW, lr=0.01))
        student = tl.build_student("cnn_small", num_classes=data.num_classes, timesteps=2)
        fit(student, tl.build_loss("tser"), teacher, data, Path(folder, "student"), recipe=recipe)
        found = evaluate_network(student, teacher, data)
    print(f"teacher {found['teacher_acc']:.1f} %, student {found['acc']:.1f} %, of one step {found['acc_t1']:.1f} %")
