"""Attention as an option of the convolutional networks."""

from functools import partial
from typing import Literal

from torch import nn

from tser_lightning.errors import UsageError
from tser_lightning.models.network import Factory, Parts
from tser_lightning.neurons import PFA


def parts_with(
    activation: Factory,
    norm: Factory,
    *,
    attention: Literal["pfa", "pfa_input"] | None = None,
    attention_timesteps: int = 4,
    attention_rank: int = 4,
) -> Parts:
    """Collect the parts of a network whose stages may end with attention.

    Args:
        activation: Makes the activation of a layer from its channels: ReLU or a neuron.
        norm: Makes the norm behind a convolution from its channels.
        attention: "pfa" weighs the output of every stage over time, channels and space; "pfa_input" the input too, as
            the public code does in its VGGs for event frames, after every pooling and before the first layer. In a
            ResNet, for which there is none, both are our reading. PFA's ReLU makes what is below 0 vanish: of an image
            that is normalised, all that is darker than the mean. A static image then differs from step to step, so
            that nothing is computed once for all of them.
        attention_timesteps: T, for which PFA has weights.
        attention_rank: R of PFA; 64 in its public code where nothing is said, 8 for CIFAR10-DVS.

    Returns:
        The parts, for a function that `architecture` decorates.

    Raises:
        UsageError: There is no such attention.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> from tser_lightning.neurons import LIF
        >>> parts = parts_with(LIF, nn.BatchNorm2d, attention="pfa", attention_timesteps=2)
        >>> parts.attention(16)(torch.rand(2, 3, 16, 8, 8)).shape  # outside a student [T, B, C, H, W]
        torch.Size([2, 3, 16, 8, 8])
    """
    if attention is None:
        return Parts(activation, norm)
    if attention not in ("pfa", "pfa_input"):
        raise UsageError(f"attention={attention!r} is not known", "it is pfa, pfa_input or null", "attention=pfa")
    pfa = partial(PFA, timesteps=attention_timesteps, rank=attention_rank)
    return Parts(activation, norm, pfa, pfa if attention == "pfa_input" else nn.Identity)
