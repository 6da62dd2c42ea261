"""The exponential moving average (EMA) of a network's weights."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn


class EMA(Callback):
    """Averages a student over the steps of its optimiser: after each, average = d * average + (1 - d) * now.

    It begins with the weights after the first step. d = min(decay, (1 + n) / (10 + n)) after n steps before: it grows
    with the steps, or the first weights, which know nothing, would be most of a short training's average. Source:
    `num_updates` of TensorFlow's `tf.train.ExponentialMovingAverage`. The statistics of BatchNorm are averaged like the
    weights, because those of the last step belong to weights that nobody will use; whole numbers (counters) are those
    of the last step. The average is what is validated and tested.

    Lightning's `EMAWeightAveraging` does not do: its decay is the same from the first step on, it rounds counters, it
    averages (and copies) all that the LightningModule has, with the loss and the teacher, and it swaps the places of
    the average and the student's own weights in a checkpoint, so that trainings that exist could not go on.

    Args:
        network: What is averaged; the average lies where it does.
        decay: Above 0 and below 1; about 1 / (1 - decay) steps have a part in it in the end.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._steps = 0  # a number of this process: the model's own may lie on a GPU, which would have to be waited for
        self._seen = 0  # steps of the trainer
        self._model = AveragedModel(network, multi_avg_fn=self._take, use_buffers=True)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move the average to the student's device."""
        self._model.to(pl_module.device)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the number of updates to the optimiser steps that are done."""
        self._seen = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *arguments: Any) -> None:
        """Update the average if the batch completed an optimiser step."""
        if trainer.global_step > self._seen:
            self._seen = trainer.global_step
            self.update(pl_module.student)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Put the average in the student's place."""
        self.exchange(pl_module.student)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Put the student's own weights back, which are those of a checkpoint too."""
        self.exchange(pl_module.student)

    def on_test_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Put the average in the student's place."""
        self._model.to(pl_module.device)
        self.exchange(pl_module.student)

    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Put the student's own weights back."""
        self.exchange(pl_module.student)

    def update(self, network: nn.Module) -> None:
        """Update the average with the weights after an optimiser step."""
        self._model.update_parameters(network)
        self._steps += 1

    @torch.no_grad()
    def exchange(self, network: nn.Module) -> None:
        """Swap the average and the network's own weights; a second call swaps them back."""
        for mine, theirs in zip(_tensors(self._model.module), _tensors(network), strict=True):
            held = theirs.clone()
            theirs.copy_(mine)
            mine.copy_(held)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Compute the logits of the averaged network, in eval mode."""
        logits: Tensor = self._model.eval()(images)
        return logits

    @property
    def network(self) -> dict[str, Tensor]:
        """The average under the network's own names."""
        return dict(self._model.module.state_dict())

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint keeps: the average and the number of steps so far."""
        return {"network": self._model.module.state_dict(), "steps": self._model.n_averaged}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore average and number of updates from a checkpoint."""
        self._model.module.load_state_dict(state["network"])
        self._model.n_averaged.copy_(state["steps"])
        self._steps = int(state["steps"])

    def _take(self, mine: PARAM_LIST, now: PARAM_LIST, steps: Tensor | int) -> None:
        if mine[0].is_floating_point():
            decay = min(self.decay, (1 + self._steps) / (10 + self._steps))
            get_ema_multi_avg_fn(decay)(mine, now, steps)
        else:  # torch's own rounds whole numbers down, also those that never change
            for old, new in zip(mine, now, strict=True):
                old.copy_(new)


def _tensors(network: nn.Module) -> chain[Tensor]:
    return chain(network.parameters(), network.buffers())
