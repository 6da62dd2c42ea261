"""Run a network over time.

Legend: T time step, B image, C class (of logits) or channel (of images), H, W.
"""

from collections.abc import Callable, Generator
from contextlib import nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from tser_lightning.errors import UsageError
from tser_lightning.kernels.packing import packed_spikes
from tser_lightning.models.capture import Capture
from tser_lightning.models.foreign import adopt_neurons, called_once
from tser_lightning.models.recompute import recomputed_blocks
from tser_lightning.models.static_stem import StaticStem
from tser_lightning.models.unconvertible import refuse_unconvertible
from tser_lightning.neurons.clock import Clock, OverTime


class Student(nn.Module):
    """A spiking network over T time steps, with logits at every step.

    A static image is fed at every step (direct encoding); what comes before the first neuron is computed once. The
    state of the neurons lives inside one call: there is nothing to reset.

    Attributes:
        causal: Whether step t needs no later step, so that it can be computed step by step.
        saves_memory: Whether spikes are kept for the backward pass as bits (`packed_spikes`): the same gradients.
        recomputes: Whether blocks are computed again in the backward pass (`recomputed_blocks`): the same gradients.
        time_first: Whether `net` maps [T, B, C, H, W] to [T, B, classes], as SpikingJelly's in step mode "m" do.

    Args:
        net: Maps the folded batch [T*B, C, H, W] to [T*B, classes]; at least one of its modules is an `OverTime`.
            Neurons of SpikingJelly and snnTorch in it are replaced (`adopt_neurons`).
        timesteps: T. It may be changed at any time, also after training.

    Raises:
        UsageError: `net` has no module that sees time, or `timesteps` is not an integer >= 1.

    Examples:
        >>> import torch
        >>> from tser_lightning.models import cnn_small
        >>> from tser_lightning.neurons import LIF
        >>> student = Student(cnn_small(10, 1, activation=LIF), timesteps=4).eval()
        >>> images_BCHW = torch.rand(2, 1, 8, 8)
        >>> logits_TBC = student(images_BCHW)
        >>> logits_TBC.shape
        torch.Size([4, 2, 10])
        >>> all(torch.equal(now, then) for now, then in zip(student.stream(images_BCHW), logits_TBC))  # step by step
        True
    """

    __call__: Callable[..., Tensor]  # to a type checker: nn.Module says Any

    def __init__(self, net: nn.Module, timesteps: int) -> None:
        super().__init__()
        self.net = net
        self.clock = Clock()
        self.timesteps = timesteps
        self.saves_memory = self.recomputes = False
        self.causal = True
        self._capture = Capture()
        self._give_clock()

    def _give_clock(self) -> None:
        if not isinstance(self.net, nn.Module):
            raise UsageError(
                f"the student is a {type(self.net).__name__}, not a network",
                "what student._target_ names is called and must give a torch.nn.Module",
                "return the network: a class that inherits nn.Module, or a function that makes one",
            )
        self._unproven = adopt_neurons(self.net)
        refuse_unconvertible(self.net)
        over_time = [module for module in self.net.modules() if isinstance(module, OverTime)]
        if not over_time:
            raise UsageError(
                "this network has no neuron: nothing in it changes from one time step to the next",
                "a student is a spiking network, whose neurons are there before it is called; with ReLU it is an ANN",
                "activation(channels) in __init__, which makes the neuron, e.g. `LIF`",
            )
        self._over_time = over_time
        self.causal = all(module.causal for module in over_time)
        self.time_first = any(module.time_first for module in over_time)
        for module in over_time:
            module.clock = self.clock

    @property
    def is_ann(self) -> bool:
        """Whether all steps are alike now, so that `net` is called for one of them: with QCFS neurons in training."""
        return not any(module.tells_steps_apart for module in self._over_time)

    @property
    def timesteps(self) -> int:
        """T, the number of steps for which a static image is shown. Event frames bring their own."""
        return self._timesteps

    @timesteps.setter
    def timesteps(self, steps: int) -> None:
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise UsageError(
                f"timesteps={steps!r} is not an integer >= 1",
                "an image is shown for a whole number of time steps",
                "timesteps=4",
            )
        self._timesteps = steps

    def forward(self, images: Tensor) -> Tensor:
        """Classify.

        Args:
            images: Static images [B, C, H, W], or event frames [T, B, C, H, W].

        Returns:
            logits_TBC.
        """
        if images.dim() == 5:
            return self._call(images.flatten(0, 1), steps=len(images))
        self._check(images)
        return self._call(images, steps=self.timesteps, images=images.shape[0])

    def stream(self, images: Tensor, through_time: bool = True) -> Generator[Tensor, Tensor | None, None]:
        """Classify step by step, e.g. to stop as soon as the answer is sure.

        Args:
            images: Static images [B, C, H, W], or event frames [T, B, C, H, W].
            through_time: Whether a gradient reaches the state (membranes) that the step before left. False: the graph
                of a step ends at that state, and may be gone back through before the next step is asked for.

        Yields:
            logits_BC of step 0, 1, ...: in eval mode the same numbers as the full call. A network with a module that
            looks ahead in time computes all steps at the first. `send(keep_B)` in place of `next` goes on with those
            images alone for which the mask is true. Without gradients, what comes before the first neuron of a network
            in eval mode is computed once.

        Raises:
            ValueError: `through_time=False` with such a network.
        """
        if not self.causal:
            if not through_time:
                raise ValueError("through_time=False: a module of this network needs all steps at once")
            logits_TBC = self(images)
            for step in range(len(logits_TBC)):
                keep_B = yield logits_TBC[step]
                logits_TBC = logits_TBC if keep_B is None else logits_TBC[:, keep_B]
            return
        static = images.dim() == 4
        if static:
            self._check(images)
        answers = not self.training and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
        stem = StaticStem(self.net, images) if static and answers else None
        if answers:
            self._capture.watch(self.net)
        carry: dict[OverTime, Any] = {}
        for step in range(self.timesteps if static else len(images)):
            frame = images if static else images[step]
            images_B = frame.shape[0] if static else None
            run = partial(self._one_step, stem, frame, images=images_B, first=step, carry=carry)
            logits_BC = self._capture.step(run, frame, carry, stem) if answers else run()
            keep_B = yield logits_BC
            if keep_B is not None:
                carry = {module: _kept(state, keep_B) for module, state in carry.items()}
                if stem is None:
                    images = images[keep_B] if static else images[:, keep_B]
                else:
                    stem.keep(keep_B)
                    images = stem.images_B
            if not through_time:
                carry = {module: _changed(state, Tensor.detach) for module, state in carry.items()}

    def _one_step(self, stem: StaticStem | None, frame_BCHW: Tensor, **settings: Any) -> Tensor:
        with nullcontext() if stem is None else stem.remembered():
            return self._call(frame_BCHW, steps=1, **settings)[0]

    def step(self, frame_BCHW: Tensor, carry: dict[OverTime, Any]) -> Tensor:
        """Run one time step.

        Args:
            frame_BCHW: What is seen at this step.
            carry: The state of each neuron, empty at rest; holds the state after the step when it returns.

        Returns:
            logits_BC.
        """
        return self._call(frame_BCHW, steps=1, images=frame_BCHW.shape[0], carry=carry)[0]

    def _call(
        self,
        folded: Tensor,
        steps: int,
        images: int | None = None,
        first: int = 0,
        carry: dict[OverTime, Any] | None = None,
    ) -> Tensor:
        """Run the network with the clock set, and set the clock back whatever happens."""
        clock = self.clock
        clock.steps, clock.images, clock.first, clock.carry = steps, images, first, carry
        try:
            learns = torch.is_grad_enabled()
            if self.time_first:
                folded, clock.images = clock.unfold(folded), None
            with (
                called_once(self._unproven) if self._unproven and not torch.compiler.is_compiling() else nullcontext(),
                packed_spikes() if self.saves_memory and learns else nullcontext(),
                recomputed_blocks(self.net, clock) if self.recomputes and learns and carry is None else nullcontext(),
            ):
                logits: Tensor = self.net(folded)
        finally:
            clock.steps, clock.images, clock.first, clock.carry = None, None, 0, None
        self._unproven = []
        if images is not None and self.is_ann:
            return logits.expand(steps, *logits.shape)
        if self.time_first:
            return self._with_time(logits, folded)
        return logits.unsqueeze(0) if steps == 1 else cast(Tensor, logits.unflatten(0, (steps, -1)))

    @staticmethod
    def _with_time(logits: Tensor, images_TBCHW: Tensor) -> Tensor:
        if logits.ndim == 3 and logits.shape[:2] == images_TBCHW.shape[:2]:
            return logits
        raise UsageError(
            what=f"this network gives {list(logits.shape)} for images {list(images_TBCHW.shape)}, not [T, B, classes]",
            why="its neurons are in step mode 'm': it is called with all time steps, and their mean is taken outside",
            fix="return the logits of all steps as they come: no mean over time, no repeat of the images",
        )

    @staticmethod
    def _check(images: Tensor) -> None:
        if images.dim() != 4:
            raise ValueError(
                f"a student takes images [B, C, H, W] or event frames [T, B, C, H, W], not {list(images.shape)}"
            )

    def extra_repr(self) -> str:
        """Show T in the printed network."""
        return f"timesteps={self.timesteps}"


def _kept(state: Any, keep_B: Tensor) -> Any:
    """The state of some images: of tensors [B, ...], one or several; a number is that of all."""
    return _changed(state, lambda value: value if value.ndim == 0 else value[keep_B])


def _changed(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A state, one tensor or several, with each of them changed."""
    if isinstance(state, Tensor):
        return change(state)
    if isinstance(state, tuple):
        inner = [_changed(each, change) for each in state]
        return type(state)(*inner) if hasattr(state, "_fields") else tuple(inner)
    return state


def timesteps_of(model: nn.Module) -> int:
    """Give T, the steps for which a student is shown an image; 1 of a network that does not say."""
    return int(getattr(model, "timesteps", 1))
