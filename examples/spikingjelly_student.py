"""A network that was written with SpikingJelly as the student: its own logits, then a training on digits.

    pip install 'tser-lightning[peers]'
    python examples/spikingjelly_student.py

In a command, from the folder of this file:

    python -m tser_lightning student=custom student._target_=spikingjelly_student.jelly_net
"""

import copy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

import tser_lightning as tl
from tser_lightning.data import Digits
from tser_lightning.models import Student
from tser_lightning.training import Recipe, evaluate_network, fit


def jelly_net(num_classes: int, in_channels: int, **others: object) -> nn.Module:
    """Two layers of neurons in step mode "m": [T, B, channels, H, W] to logits [T, B, classes]."""
    spike = partial(neuron.LIFNode, tau=2.0, detach_reset=True, surrogate_function=surrogate.ATan())
    net = nn.Sequential(
        layer.Conv2d(in_channels, 16, 3, padding=1, bias=False),
        layer.BatchNorm2d(16),
        spike(),
        layer.MaxPool2d(2),
        layer.Conv2d(16, 32, 3, padding=1, bias=False),
        layer.BatchNorm2d(32),
        spike(),
        layer.Flatten(),
        layer.Linear(32 * 4 * 4, num_classes),
    )
    functional.set_step_mode(net, "m")
    return net


if __name__ == "__main__":
    torch.manual_seed(1)
    net = jelly_net(10, 1).double().eval()
    student = Student(copy.deepcopy(net), timesteps=4)  # replaces SpikingJelly's neurons in the copy
    images = torch.rand(8, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        functional.reset_net(net)
        theirs = net(images.expand(4, -1, -1, -1, -1))
        difference = float((student(images) - theirs).abs().max())

    data = Digits(num_classes=10, shape=[1, 8, 8], mean=[0.3055], std=[0.3759], batch_size=64)
    recipe = Recipe(epochs=3, optimizer=partial(torch.optim.AdamW, lr=0.01))
    student.float().train()
    with TemporaryDirectory() as folder:
        fit(student, tl.build_loss("tet"), None, data, Path(folder), recipe=recipe)
    accuracy = evaluate_network(student, None, data)["acc"]
    print(f"largest difference of a logit: {difference}, after training: accuracy {accuracy:.1f} %")
