"""Features of named layers, caught while a network runs."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase

from torch import Tensor, nn

from tser_lightning.errors import UsageError
from tser_lightning.models.recompute import recomputing


class FeatureHooks:
    """Catches the outputs of some layers of a network.

    They are named by the stages that the network declares in `stages` ("stage4"), by module paths ("layer4.1") or by
    patterns of such names ("layer*.conv1"), which catch every layer that they fit and that is called. Without names no
    hook exists.

    Args:
        network: The network that has the layers.
        names: Stage names, module paths or patterns.
        role: "student" or "teacher", for messages.

    Raises:
        UsageError: A layer that the network does not have.
    """

    def __init__(self, network: nn.Module, names: Sequence[str], role: str) -> None:
        self._caught: dict[str, Tensor] = {}
        modules = dict(network.named_modules())
        stages: dict[str, str] = getattr(network, "stages", {})
        known = [*stages, *(key for key in modules if key)]
        for name in dict.fromkeys(each for given in names for each in matching(given, known, role)):
            modules[stages.get(name, name)].register_forward_hook(self._catcher(name))

    def _catcher(self, name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def catch(module: nn.Module, inputs: object, output: Tensor) -> None:
            if not recomputing():
                self._caught[name] = output

        return catch

    def take(self) -> dict[str, Tensor]:
        """Give what the last run of the network left, and forget it."""
        caught, self._caught = self._caught, {}
        return caught


def matching(given: str, known: Sequence[str], role: str) -> Iterator[str]:
    """Give the known names that a name or pattern stands for.

    Args:
        given: One of them, or a pattern as `fnmatch` knows it.
        known: The names of all layers.
        role: "student" or "teacher", for the message.

    Raises:
        UsageError: It stands for none.
    """
    found = [given] if given in known else [name for name in known if fnmatchcase(name, given)]
    if not found:
        raise _unknown(given, role, list(known))
    yield from found


def over_steps(name: str, feature: Tensor, steps: int, images: int) -> Tensor:
    """Turn a student's feature into [T, B, ...]; what is computed once per image is the same at every step.

    Args:
        name: Of the layer, for the message.
        feature: [T*B, ...], or [B, ...] of a layer before the first neuron.
        steps: T of the call.
        images: B of the call.

    Raises:
        UsageError: It is neither.
    """
    rows = feature.shape[0] if isinstance(feature, Tensor) and feature.ndim else None
    if rows == steps * images:
        unfolded: Tensor = feature.unflatten(0, (steps, images))
        return unfolded
    if rows == images:
        return feature.expand(steps, *feature.shape)
    raise UsageError(
        what=f"the student's layer {name!r} gives {_described(feature)} for {images} images and {steps} time steps",
        why=f"a feature is compared image by image: its first axis has T*B = {steps * images} or B = {images} entries",
        fix="a layer whose output has these",
    )


def _described(output: object) -> str:
    return f"a tensor {list(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"


def _unknown(name: str, role: str, known: list[str]) -> UsageError:
    close = difflib.get_close_matches(name, known, n=3) or known[:6]
    return UsageError(
        what=f"the {role} has no layer {name!r}, which the loss wants to see",
        why=f"layers are named by stage or module path of the {role}; close to it: {', '.join(close)}",
        fix=f"a loss setting that names one of them, e.g. {close[0]}",
    )
