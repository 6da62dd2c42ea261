"""The activation of an ANN."""

from torch import nn


def relu(channels: int | None = None, v_threshold: float | None = None) -> nn.Module:
    """Make a ReLU: what turns an architecture into the ANN twin of a spiking network.

    Takes the arguments that a neuron takes, so that it fits wherever a neuron does, and needs none of them. Not in
    place: a residual stream that is read twice would be changed.

    Args:
        channels: Not used: a ReLU has no parameters.
        v_threshold: Not used.

    Returns:
        A new ReLU.

    Examples:
        >>> import torch
        >>> relu(64)(torch.tensor([-1.0, 2.0])).tolist()
        [0.0, 2.0]
    """
    return nn.ReLU()
