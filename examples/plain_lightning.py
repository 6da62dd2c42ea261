"""A training with Lightning's own Trainer: callbacks, loggers and devices are Lightning's; no command line.

    python examples/plain_lightning.py

`tser_lightning.training.fit` makes such a Trainer, and goes on where a training was interrupted.
"""

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.optim import AdamW

import tser_lightning as tl
from tser_lightning.data import Digits, ImageDataModule
from tser_lightning.training import Distiller, Recipe, Teacher


def adamw(parameters: list[dict[str, object]]) -> AdamW:
    """Make the optimiser of the parameter groups that a Distiller gives."""
    return AdamW(parameters, lr=0.01)


if __name__ == "__main__":
    torch.manual_seed(1)
    data = Digits(num_classes=10, shape=[1, 8, 8], mean=[0.3055], std=[0.3759], batch_size=64)
    # any nn.Module from images to logits, trained elsewhere; this one knows nothing, and is here for its form
    teacher = Teacher(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)))
    student = tl.build_student("cnn_small", in_channels=1, timesteps=2)
    loss = tl.build_loss("tser", alpha=0.01)
    module = Distiller(student, loss, teacher, recipe=Recipe(epochs=3, optimizer=adamw))
    images = ImageDataModule(data)
    trainer = pl.Trainer(
        max_epochs=3,
        use_distributed_sampler=False,  # the data module divides the images among processes itself
        callbacks=[ModelCheckpoint(monitor="val/acc", mode="max")],
        logger=False,
    )
    trainer.fit(module, datamodule=images)
    trainer.test(module, datamodule=images, ckpt_path="best")
