"""LSG: a surrogate whose width follows a learnt leak."""

from typing import Any

from torch import Tensor

from tser_lightning.neurons.neuron import PLIF


class LSG(PLIF):
    """LIF with the learnable surrogate gradient of Lian et al. (IJCAI 2023).

    V = decay H + I with decay = sigmoid(w), learnt per layer. The surrogate is a rectangle of width
    2 v_threshold sqrt(1 + decay^2): the spread of a membrane grows with its leak, and the window in which a gradient
    passes grows with it. The width follows the leak; no gradient reaches the leak through it. Decay and width are
    tensors to the same operators, with all backends, that compute `LIF`.

    A reading where the paper, of which there is no code, is not explicit: its initial 0.2 is taken as the decay's.

    Args:
        channels: Not used: the leak is shared by all channels.
        decay: Where the leak starts, in (0, 1).
        decay_input: Charge to decay v + (1 - decay) x, else to decay v + x.
        v_threshold: Fires at this membrane and above; > 0.
        settings: `reset`, `detach_reset` and `backend` of `LIF`.

    Raises:
        ValueError: A setting out of its range or an unknown name.

    Examples:
        >>> neuron = LSG(decay=0.2, v_threshold=0.5)
        >>> round(float(neuron.width()), 4)  # sqrt(1 + 0.2^2)
        1.0198
    """

    def __init__(
        self,
        channels: int | None = None,
        *,
        decay: float = 0.2,
        decay_input: bool = False,
        v_threshold: float = 0.5,
        **settings: Any,
    ) -> None:
        super().__init__(
            channels,
            decay=decay,
            decay_input=decay_input,
            v_threshold=v_threshold,
            surrogate="rectangular",
            **settings,
        )

    def width(self) -> Tensor:
        """Width of the rectangle."""
        return 2 * self.spec.v_threshold * (1 + self.leak().detach().square()).sqrt()
