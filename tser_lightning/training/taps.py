"""Features of named layers, caught while a network runs."""

import difflib
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from tser_lightning.mistake import Mistake
from tser_lightning.models.recompute import recomputing


class Taps:
    """Catches the outputs of some layers of a network.

    A tap is a stage name that the network declares in `stages` ("stage4") or a module path ("layer4.1"). Without taps
    no hook exists.

    Args:
        network: Where the layers are.
        names: The taps.
        role: "student" or "teacher", for messages.

    Raises:
        Mistake: A tap that the network does not have.
    """

    def __init__(self, network: nn.Module, names: Sequence[str], role: str) -> None:
        self._caught: dict[str, Tensor] = {}
        modules = dict(network.named_modules())
        stages: dict[str, str] = getattr(network, "stages", {})
        for name in names:
            path = stages.get(name, name)
            if path not in modules:
                raise _unknown(name, role, [*stages, *(key for key in modules if key)])
            modules[path].register_forward_hook(self._catcher(name))

    def _catcher(self, name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def catch(module: nn.Module, inputs: object, output: Tensor) -> None:
            if not recomputing():
                self._caught[name] = output

        return catch

    def take(self) -> dict[str, Tensor]:
        """Give what the last run of the network left, and forget it."""
        caught, self._caught = self._caught, {}
        return caught


def over_steps(name: str, feature: Tensor, steps: int, images: int) -> Tensor:
    """Turn a student's feature into [T, B, ...]; what is computed once per image is the same at every step.

    Args:
        name: Of the tap, for the message.
        feature: [T*B, ...], or [B, ...] of a layer before the first neuron.
        steps: T.
        images: B.

    Raises:
        Mistake: It is neither.
    """
    rows = feature.shape[0] if isinstance(feature, Tensor) and feature.ndim else None
    if rows == steps * images:
        unfolded: Tensor = feature.unflatten(0, (steps, images))
        return unfolded
    if rows == images:
        return feature.expand(steps, *feature.shape)
    raise Mistake(
        what=f"the student's layer {name!r} gives {_described(feature)} for {images} images and {steps} time steps",
        why=f"a feature is compared image by image: its first axis has T*B = {steps * images} or B = {images} entries",
        fix="a tap on a layer whose output has these",
    )


def _described(output: object) -> str:
    return f"a tensor {list(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"


def _unknown(name: str, role: str, known: list[str]) -> Mistake:
    close = difflib.get_close_matches(name, known, n=3) or known[:6]
    return Mistake(
        what=f"the {role} has no layer {name!r}, which the loss wants to see",
        why=f"a tap is a stage or a module path of the {role}; close to it: {', '.join(close)}",
        fix=f"a loss setting that names one of them, e.g. {close[0]}",
    )
