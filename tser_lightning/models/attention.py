"""Attention as an option of the convolutional networks."""

from functools import partial
from typing import Literal

from tser_lightning.mistake import Mistake
from tser_lightning.models.network import Factory, Parts
from tser_lightning.neurons import PFA


def parts_with(
    activation: Factory,
    norm: Factory,
    *,
    attention: Literal["pfa"] | None = None,
    attention_timesteps: int = 4,
    attention_rank: int = 4,
) -> Parts:
    """Collect the parts of a network whose stages may end with attention.

    Args:
        activation: ReLU or a neuron.
        norm: Follows a convolution.
        attention: "pfa" weighs the output of every stage over time, channels and space. Its public code does so in
            VGGs, after every pooling and on the input besides; in a ResNet, for which there is none, it is our
            reading, and the input, which is the same at every step, is left as it is.
        attention_timesteps: T, for which PFA has weights.
        attention_rank: R of PFA; 64 in its public code where nothing is said, 8 for CIFAR10-DVS.

    Raises:
        ValueError: There is no such attention.
    """
    if attention is None:
        return Parts(activation, norm)
    if attention != "pfa":
        raise Mistake(f"student.attention={attention!r} is not known", "it is pfa or null", "student.attention=pfa")
    return Parts(activation, norm, partial(PFA, timesteps=attention_timesteps, rank=attention_rank))
