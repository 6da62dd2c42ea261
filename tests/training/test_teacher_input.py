"""A teacher that was trained on images of another form is told apart, and so is what it wants."""

import logging
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import tser_lightning as tl
from tser_lightning.cli.main import main
from tser_lightning.data import Digits
from tser_lightning.data.array_data import ArrayData
from tser_lightning.training import Teacher
from tser_lightning.training.teacher_input import better_input


def digits(mean: float = 0.305, std: float = 0.376) -> Digits:
    return Digits(num_classes=10, shape=[1, 8, 8], mean=[mean], std=[std])


def taught(net: nn.Module, data: Digits, scale: float, shift: float, steps: int = 40) -> nn.Module:
    """Train on pixels in [0, 1] times `scale` plus `shift`."""
    train = data.indices("train")
    images = data.read("train", train, None).float() / 255 * scale + shift
    labels = data.labels("train")[train]
    optimizer = torch.optim.AdamW(net.train().parameters(), lr=0.01)
    for step in range(steps):
        part = torch.arange(step * 128, (step + 1) * 128) % len(labels)
        optimizer.zero_grad()
        F.cross_entropy(net(images[part]), labels[part]).backward()
        optimizer.step()
    return net.eval()


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return tl.build_teacher("cnn_small", num_classes=10, in_channels=1, weights=None).net.requires_grad_()


@pytest.mark.parametrize(
    ("scale", "shift", "fix"),
    [
        (255.0, 0.0, "'mean=[0]' 'std=[0.0039216]'"),
        (2.0, -1.0, "'mean=[0.5]' 'std=[0.5]'"),
    ],
)
def test_the_normalisation_of_its_training_is_found(scale: float, shift: float, fix: str) -> None:
    data = digits(0.0, 0.1) if scale == 2.0 else digits()
    teacher = Teacher(taught(network(), data, scale, shift))
    found = better_input(teacher, data)
    assert found is not None
    assert found.fix == fix
    assert found.images == 256
    assert found.after > 90 > found.before
    # what it says to type: the same images, another way
    mean, std = (float(part.strip("'").split("[")[1].rstrip("]")) for part in fix.split(" "))
    typed = digits(mean, std)
    train = typed.indices("train")
    right = (
        teacher(typed.network_input(typed.read("train", train, None), None)).argmax(1) == typed.labels("train")[train]
    )
    assert 100 * float(right.double().mean()) == pytest.approx(found.after, abs=5)
    assert better_input(teacher, typed) is None


def test_a_teacher_of_these_images_is_left_alone() -> None:
    data = digits()
    teacher = Teacher(taught(network(), data, 1 / 0.376, -0.305 / 0.376))
    before = teacher.fingerprint()
    assert better_input(teacher, data) is None
    assert teacher.fingerprint() == before


def test_a_teacher_that_knows_nothing_is_not_excused() -> None:
    assert better_input(Teacher(network()), digits()) is None


def test_a_pool_that_the_weights_do_not_tell_of_is_found() -> None:
    torch.manual_seed(0)
    data = digits()
    net = tl.build_teacher("resnet_small", num_classes=10, in_channels=1, weights=None, widths=[8, 16]).net
    net.requires_grad_().maxpool = nn.MaxPool2d(3, 2, padding=1)
    taught(net, data, 1 / 0.376, -0.305 / 0.376)
    net.maxpool = nn.Identity()
    found = better_input(Teacher(net), data)
    assert found is not None
    assert "a max-pool" in found.way
    assert isinstance(net.maxpool, nn.Identity)


class Made(ArrayData):
    """Images from a tensor, uint8 [N, C, H, W]."""

    name = "made"

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        channels = images.shape[1]
        mean, std = [0.4] * channels, [0.25] * channels
        super().__init__(num_classes=int(labels.max()) + 1, shape=images.shape[1:], mean=mean, std=std)
        self.made = {
            "train_images": images.permute(0, 2, 3, 1),
            "train_labels": labels,
            "test_images": images.permute(0, 2, 3, 1),
            "test_labels": labels,
        }

    def arrays(self) -> dict[str, Tensor]:
        return self.made


def test_colours_in_another_order_are_found() -> None:
    class Brightest(nn.Module):
        """The channel that is the brightest, of images as OpenCV reads them."""

        def forward(self, images: Tensor) -> Tensor:
            return images.flip(1).mean((2, 3))

    labels = torch.arange(300) % 3
    images = torch.randint(0, 120, (300, 3, 8, 8), dtype=torch.uint8)
    images[torch.arange(300), labels] += 100
    found = better_input(Teacher(Brightest()), Made(images, labels))
    assert found is not None
    assert found.way == "the colours in the order blue, green, red"
    assert found.before == pytest.approx(100 / 3, abs=1)
    assert found.after == 100


def test_the_size_that_it_knows_is_found() -> None:
    class Counts(nn.Module):
        """The pixels above the mean, in steps of 200: up to 64 of them in an image of 8 x 8, 784 in one of 28."""

        def forward(self, images: Tensor) -> Tensor:
            count = (images > 0).sum((1, 2, 3)).float()[:, None]
            return -(count - torch.tensor([150.0, 400.0, 650.0])).abs()

    labels = torch.arange(300) % 3
    images = torch.zeros(300, 1, 8, 8, dtype=torch.uint8)
    for index, label in enumerate(labels.tolist()):
        images[index, 0, : 2 * label + 2] = 255
    found = better_input(Teacher(Counts()), Made(images, labels))
    assert found is not None
    assert found.way == "images of 28x28"
    assert found.after == 100


def test_the_command_says_what_to_type_and_that_helps(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file(taught(network(), digits(), 255.0, 0.0).state_dict(), "t.safetensors")
    command = ["loss=vanilla_kd", "teacher.weights=t.safetensors", "trainer.epochs=1", "logging.wandb.mode=disabled"]
    assert main(command) == 2
    what, why, fix = capsys.readouterr().err.strip().splitlines()[-3:]
    assert "near chance" in what
    assert "with pixels from 0 to 255" in why
    with caplog.at_level(logging.INFO, "tser_lightning"):
        assert main([*command, *shlex.split(fix.removeprefix("  try: "))]) == 0
    assert "may not be as the teacher" not in caplog.text
