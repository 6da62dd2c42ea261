"""What Trainer and logging add to a step: a student of almost no work, in the Trainer and in a bare loop."""

import tempfile
from pathlib import Path

import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from benchmarks.rounds import clock, report, start
from tser_lightning.data.synthetic import Synthetic
from tser_lightning.losses import CrossEntropy, DistillationLoss
from tser_lightning.models import Student
from tser_lightning.neurons import LIF
from tser_lightning.training import Machine, Recipe, fit

STEPS = 1000


def tiny() -> Student:
    """Make a student of three small layers."""
    torch.manual_seed(0)
    return Student(nn.Sequential(nn.Conv2d(1, 2, 3), LIF(2), nn.Flatten(), nn.Linear(72, 4)), timesteps=2)


def bare(data: Synthetic) -> float:
    """Seconds per step of a loop that a person would write."""
    model, loss = tiny(), DistillationLoss({"ce": CrossEntropy()})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    begin = clock()
    for batch in data.loader("train"):
        optimizer.zero_grad()
        loss(model(batch.images), None, batch.labels).total.backward()
        optimizer.step()
    return (clock() - begin) / STEPS


def trained(data: Synthetic, epochs: int) -> float:
    """Seconds of so many epochs in the Trainer with a logger."""
    with tempfile.TemporaryDirectory() as folder:
        begin = clock()
        fit(
            tiny(),
            DistillationLoss({"ce": CrossEntropy()}),
            None,
            data,
            Path(folder),
            recipe=Recipe(epochs=epochs),
            machine=Machine(accelerator="cpu", runs_dir=folder, checkpoint_every=None),
            selection="last",
            loggers=[CSVLogger(folder)],
        )
        return clock() - begin


def main() -> None:
    """Measure and report; an epoch more is a thousand steps more, so that starting up cancels."""
    start()
    data = Synthetic(4, (1, 8, 8), train_images=2 * STEPS, test_images=8, batch_size=2)
    trained(data, 1)
    loop = min(bare(data) for _ in range(3))
    step = min((trained(data, 3) - trained(data, 1)) / (2 * STEPS) for _ in range(2))
    rows = [
        {"what": "bare loop", "ms per step": 1e3 * loop},
        {"what": "Trainer, logging every 50 steps", "ms per step": 1e3 * step, "overhead ms": 1e3 * (step - loop)},
    ]
    report("overhead", "What Trainer and logging add to a step", rows)


if __name__ == "__main__":
    main()
