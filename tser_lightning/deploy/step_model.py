"""One time step as a function of images and states, for runtimes that keep the state themselves."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tser_lightning.errors import UsageError
from tser_lightning.models import TEBN, Student
from tser_lightning.neurons import GLIF, LIF
from tser_lightning.neurons.clock import OverTime


class StepModel(nn.Module):
    """(images_BCHW, states) -> (logits_BC, states after the step); zeros are the states at rest.

    Attributes:
        names: Of the states: the path of the neuron, with a number where it has several.
        shapes: Of the states of one image.

    Args:
        student: The student, in eval mode.
        images_BCHW: Some images, or what is seen of some recordings at a step, for the shapes.

    Raises:
        UsageError: A module of the student does not do the same at every step, or looks ahead.

    Examples:
        >>> import torch
        >>> import tser_lightning as tl
        >>> student = tl.build_student("cnn_small", in_channels=1, timesteps=4).eval()
        >>> images_BCHW = torch.rand(2, 1, 8, 8)
        >>> step = StepModel(student, images_BCHW)
        >>> step.names
        ['act1', 'act2', 'act3']
        >>> with torch.no_grad():
        ...     first_BC, states = step(images_BCHW, step.at_rest(images_BCHW))
        ...     second_BC, states = step(images_BCHW, states)
        ...     expected_TBC = student(images_BCHW)
        >>> torch.allclose(torch.stack([first_BC, second_BC]), expected_TBC[:2], atol=1e-6)
        True
    """

    def __init__(self, student: Student, images_BCHW: Tensor) -> None:
        super().__init__()
        self.student = student
        paths = {module: path for path, module in student.net.named_modules() if isinstance(module, OverTime)}
        for module, path in paths.items():
            _check(module, path)
        carry: dict[OverTime, Any] = {}
        with torch.no_grad():
            student.step(images_BCHW, carry)
        self._neurons = list(carry)
        states, self._form = pytree.tree_flatten(list(carry.values()))
        self.shapes = [tuple(state.shape[1:]) for state in states]
        self.names = [
            f"{paths[module]}.{number}" if len(inner) > 1 else paths[module]
            for module, state in carry.items()
            for inner in [pytree.tree_flatten(state)[0]]
            for number in range(len(inner))
        ]

    def at_rest(self, images_BCHW: Tensor) -> list[Tensor]:
        """Give the states before the first step, zeros."""
        return [images_BCHW.new_zeros(len(images_BCHW), *shape) for shape in self.shapes]

    def forward(self, images_BCHW: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Run one step."""
        carry = dict(zip(self._neurons, pytree.tree_unflatten(states, self._form), strict=True))
        logits_BC = self.student.step(images_BCHW, carry)
        return logits_BC, pytree.tree_flatten([carry[module] for module in self._neurons])[0]


def _check(module: OverTime, path: str) -> None:
    reason = ""
    if not module.causal:
        reason = "needs the steps that follow"
    elif isinstance(module, LIF) and module.spec.v_init != 0:
        reason = f"starts at v_init={module.spec.v_init}, and the states start at zero"
    elif isinstance(module, TEBN | GLIF):
        reason = "has weights of its own for each step"
    if reason:
        raise UsageError(
            what=f"{path} ({type(module).__name__}) {reason}",
            why="a model of one step does the same at every step, with nothing but its state",
            fix="export.step=false, which leaves the model of all steps",
        )
