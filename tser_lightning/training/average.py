"""The exponential moving average of a network's weights."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn


class Average:
    """Averages a network over the steps of its optimiser: after each, average = d * average + (1 - d) * now.

    It begins with the weights after the first step. d = min(decay, (1 + n) / (10 + n)) after n steps before: it grows
    with the steps, or the first weights, which know nothing, would be most of a short training's average. Source:
    `num_updates` of TensorFlow's `tf.train.ExponentialMovingAverage`. The statistics of BatchNorm are averaged like the
    weights, because those of the last step belong to weights that nobody will use; whole numbers (counters) are those
    of the last step.

    Args:
        network: What is averaged; the average lies where it does.
        decay: Above 0 and below 1; about 1 / (1 - decay) steps have a part in it in the end.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._steps = 0  # a number of this process: the model's own may lie on a GPU, which would have to be waited for
        self._model = AveragedModel(network, multi_avg_fn=self._take, use_buffers=True)

    def to(self, device: torch.device) -> None:
        """Bring it to a device."""
        self._model.to(device)

    def update(self, network: nn.Module) -> None:
        """Take in the weights after a step."""
        self._model.update_parameters(network)
        self._steps += 1

    @torch.no_grad()
    def exchange(self, network: nn.Module) -> None:
        """Put the average into the network and the network's own weights here; done twice, all is as before."""
        for mine, theirs in zip(_tensors(self._model.module), _tensors(network), strict=True):
            held = theirs.clone()
            theirs.copy_(mine)
            mine.copy_(held)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Ask the averaged network, in eval mode."""
        logits: Tensor = self._model.eval()(images)
        return logits

    def state_dict(self) -> dict[str, Any]:
        """Give the average under the network's own names, and the number of steps so far."""
        return {"network": self._model.module.state_dict(), "steps": self._model.n_averaged}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
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
