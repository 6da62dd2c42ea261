"""A neuron of your own: LIF whose threshold rises with every spike (ALIF; Bellec et al., NeurIPS 2018), in a student.

    python examples/own_neuron.py

In a command, from the folder of this file:

    python -m tser_lightning neuron=custom neuron._target_=own_neuron.ALIF +neuron.rise=0.5
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

import tser_lightning as tl
from tser_lightning.data import Digits
from tser_lightning.models import Student, cnn_small
from tser_lightning.neurons import Neuron, fire
from tser_lightning.training import Recipe, evaluate_network, fit


class ALIF(Neuron):
    """V = decay V' + (1 - decay) X; a spike where V >= 1 + rise * A; A, the average of its spikes, has a long memory.

    Args:
        channels: Not used: all channels are alike. Every neuron is called with their number.
        decay: What is left of the membrane after a step.
        rise: How far the threshold rises at most.
        memory: What is left of the average after a step.
    """

    def __init__(self, channels: int | None = None, decay: float = 0.5, rise: float = 1.0, memory: float = 0.9) -> None:
        super().__init__()
        self.decay, self.rise, self.memory = decay, rise, memory

    def run(self, currents_TB: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Go through the steps of [T, B, ...]; the state is what `stream` hands to the next call, None at rest."""
        v, average = (torch.zeros_like(currents_TB[0]),) * 2 if state is None else state
        spikes = []
        for x in currents_TB:
            v = self.decay * v + (1 - self.decay) * x
            s = fire(v - 1 - self.rise * average, "sigmoid")
            v, average = v * (1 - s), self.memory * average + (1 - self.memory) * s
            spikes.append(s)
        return torch.stack(spikes), (v, average)


if __name__ == "__main__":
    torch.manual_seed(1)
    data = Digits(num_classes=10, shape=[1, 8, 8], mean=[0.3055], std=[0.3759], batch_size=64)
    recipe = Recipe(epochs=3, optimizer=partial(torch.optim.AdamW, lr=0.01))
    for rise in (0.0, 1.0):
        student = Student(cnn_small(10, 1, partial(ALIF, rise=rise)), timesteps=4)
        with TemporaryDirectory() as folder:
            fit(student, tl.build_loss("tet"), None, data, Path(folder), recipe=recipe)
        found = evaluate_network(student, None, data)
        print(f"rise {rise}: accuracy {found['acc']:.1f} %, firing rate {found['firing_rate']:.1f} %")
