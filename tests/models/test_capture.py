"""A replayed step calls no module and gives the modules' numbers; whatever changes in a network is seen."""

import copy
import gc
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, cast
from weakref import ref

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tser_lightning.models import Student, capture, cnn_small, resnet_small, sew_resnet18, spikformer
from tser_lightning.models.capture import Recorder
from tser_lightning.models.fusing import allow_fusing
from tser_lightning.models.memory_format import lay_out
from tser_lightning.neurons import IF, LIF, LSG, PLIF

T = 4
KEEP_B = torch.tensor([True, False, True])


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    torch.manual_seed(0)  # whether neurons fire is then no chance
    with torch.no_grad():
        yield


@pytest.fixture
def images_BCHW() -> Tensor:
    return torch.randn(3, 1, 16, 16)


@pytest.fixture
def modules_called(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Convolutions and linear layers, each time that one of them is called."""
    called: list[nn.Module] = []
    for kind in (nn.Conv2d, nn.Linear):

        def forward(self: Any, x: Tensor, of_kind: Callable[..., Tensor] = kind.forward) -> Tensor:
            called.append(self)
            return of_kind(self, x)

        monkeypatch.setattr(kind, "forward", forward)
    return called


def awake(make: Callable[..., nn.Module] = cnn_small, neuron: type[LIF] = LIF, **settings: Any) -> Student:
    """A student whose neurons fire at every depth."""
    student = Student(make(10, 1, neuron, **settings), T)
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 1, 3)
            nn.init.uniform_(module.bias, 0, 2)
    return student.eval()


def streamed(student: Student, images: Tensor, keep: bool = False) -> list[Tensor]:
    """All steps; with `keep` an image leaves after the second."""
    stream = student.stream(images)
    steps = [next(stream), next(stream)]
    return [*steps, stream.send(KEEP_B) if keep else next(stream), *stream]


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": nullcontext,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "cnn": cnn_small,
    "resnet": partial(resnet_small, widths=(8, 16)),
    "sew": partial(sew_resnet18, stem="cifar"),
    "spikformer": partial(spikformer, depth=1, dim=32, heads=4),
}


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_replayed_stream_calls_no_module_and_gives_its_bits(
    images_BCHW: Tensor, name: str, mode: str, frames: bool, modules_called: list[nn.Module]
) -> None:
    student = awake(NETWORKS[name])
    first, second = (torch.randn(T, 3, 1, 16, 16) if frames else torch.randn(3, 1, 16, 16) for _ in range(2))
    with MODES[mode]():
        expected = streamed(copy.deepcopy(student), second, keep=True)
        streamed(student, first, keep=True)
        modules_called.clear()
        assert_equal(streamed(student, second, keep=True), expected)
    assert not modules_called
    assert expected[-1].std() > 0


@pytest.mark.parametrize("neuron", [IF, PLIF, LSG])
def test_every_neuron_that_computes_as_lif_does_is_replayed(
    images_BCHW: Tensor, neuron: type[LIF], modules_called: list[nn.Module]
) -> None:
    student = awake(neuron=neuron).double()
    streamed(student, images_BCHW.double())
    modules_called.clear()
    found = streamed(student, images_BCHW.double())
    assert not modules_called
    torch.testing.assert_close(torch.stack(found), student(images_BCHW.double()))


def _another_weight(student: Student) -> None:
    conv = cast(Any, student.net).conv2
    conv.weight = nn.Parameter(-conv.weight)


def _written_in_place(student: Student) -> None:
    cast(Any, student.net).conv2.weight.neg_()


def _written_past_autograd(student: Student) -> None:
    cast(Any, student.net).conv2.weight.data = -cast(Any, student.net).conv2.weight.data


def _other_statistics(student: Student) -> None:
    cast(Any, student.net).bn2.running_mean = torch.full((16,), 0.5)


def _another_module(student: Student) -> None:
    cast(Any, student.net).pool = nn.AvgPool2d(2)


def _another_threshold(student: Student) -> None:
    act = cast(Any, student.net).act3
    act.spec = replace(act.spec, v_threshold=0.5)


def _norms_of_the_batch(student: Student) -> None:
    cast(Any, student.net).bn3.train().momentum = 0.0  # the same numbers at every call


def _a_hook(student: Student) -> None:
    cast(Any, student.net).bn2.register_forward_hook(lambda module, args, y: -y)


def _a_hook_before(student: Student) -> None:
    cast(Any, student.net).fc.register_forward_pre_hook(lambda module, args: (-args[0],))


def _another_forward(student: Student) -> None:
    fc = cast(Any, student.net).fc
    fc.forward = lambda x: -nn.Linear.forward(fc, x)


def _separate(student: Student) -> None:
    allow_fusing(student, False)


CHANGES = (
    _another_weight,
    _written_in_place,
    _written_past_autograd,
    _other_statistics,
    _another_module,
    _another_threshold,
    _norms_of_the_batch,
    _a_hook,
    _a_hook_before,
    _another_forward,
    _separate,
)


@pytest.mark.parametrize("between_steps", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_network_counts_from_the_next_step_on(
    images_BCHW: Tensor, change: Callable[[Student], None], between_steps: bool
) -> None:
    def changed_while_streaming(student: Student) -> list[Tensor]:
        stream = student.stream(images_BCHW)
        steps = [next(stream), next(stream)] if between_steps else []
        change(student)
        return [*steps, *stream]

    student = awake()
    before, never_captured = streamed(student, images_BCHW), copy.deepcopy(student)
    expected = changed_while_streaming(never_captured)
    assert_equal(changed_while_streaming(student), expected)
    if change is not _separate:
        assert not torch.equal(expected[-1], before[-1])
    assert_equal(streamed(student, images_BCHW), streamed(copy.deepcopy(student), images_BCHW))


def _listen(student: Student, seen: list[int]) -> None:
    cast(Any, student.net).fc.register_forward_hook(lambda module, args, y: seen.append(len(y)))


def _listen_before(student: Student, seen: list[int]) -> None:
    cast(Any, student.net).fc.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))


def _stand_in(student: Student, seen: list[int]) -> None:
    def forward(x: Tensor) -> Tensor:
        seen.append(len(x))
        return nn.Linear.forward(fc, x)

    fc = cast(Any, student.net).fc
    fc.forward = forward


@pytest.mark.parametrize("listen", [_listen, _listen_before, _stand_in])
def test_who_listens_to_a_module_is_called_at_every_step(
    images_BCHW: Tensor, listen: Callable[[Student, list[int]], None]
) -> None:
    student, seen = awake(), list[int]()
    listen(student, seen)
    for _ in range(2):
        streamed(student, images_BCHW)
    assert seen == [3] * 2 * T


def test_who_listens_to_all_modules_is_called_at_every_step(images_BCHW: Tensor) -> None:
    student, seen = awake(), list[nn.Module]()
    streamed(student, images_BCHW)
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, y: seen.append(module))
    try:
        streamed(student, images_BCHW)
    finally:
        handle.remove()
    assert seen.count(cast(Any, student.net).fc) == T


def test_other_sizes_dtypes_modes_and_layouts_are_kinds_of_their_own(images_BCHW: Tensor) -> None:
    student = awake()
    for images in (images_BCHW, images_BCHW[:1], images_BCHW.expand(3, 3, 16, 16)[:, :1]):
        assert_equal(streamed(student, images)[:2], streamed(copy.deepcopy(student), images)[:2])
    student.double()
    torch.testing.assert_close(
        torch.stack(streamed(student, images_BCHW.double())), student(images_BCHW.double()), rtol=0, atol=1e-12
    )
    for mode in (*MODES.values(), *MODES.values()):
        with mode():
            assert_equal(streamed(student.float(), images_BCHW), streamed(copy.deepcopy(student), images_BCHW))
    programs = student._capture._programs
    student.to(memory_format=torch.channels_last)  # the same parameters, otherwise in memory
    assert_equal(streamed(student, images_BCHW), streamed(copy.deepcopy(student), images_BCHW))
    assert student._capture._programs is not programs


def test_a_student_that_was_laid_out_is_replayed(images_BCHW: Tensor, modules_called: list[nn.Module]) -> None:
    student = awake()
    lay_out(student.net, images_BCHW, torch.device("cpu"))
    assert any(module._forward_pre_hooks for module in student.modules())
    expected = streamed(student, images_BCHW)
    modules_called.clear()
    assert_equal(streamed(student, images_BCHW), expected)
    assert not modules_called


def test_gradients_come_from_modules(images_BCHW: Tensor) -> None:
    student = awake()
    streamed(student, images_BCHW)
    stream = student.stream(images_BCHW)
    next(stream)
    with torch.enable_grad():
        assert next(stream).requires_grad
        assert streamed(student, images_BCHW)[-1].requires_grad


def test_who_listens_to_torch_hears_every_step(images_BCHW: Tensor) -> None:
    class Counts(TorchFunctionMode):
        count = 0

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += function is torch.conv2d
            return function(*args, **(kwargs or {}))

    student = awake()
    streamed(student, images_BCHW)
    with Counts() as counts:
        streamed(student, images_BCHW)
    assert counts.count == 1 + 2 * T


class Counting(nn.Module):
    """Counts its calls where torch does not see it."""

    def __init__(self) -> None:
        super().__init__()
        self.spike, self.fc, self.calls = LIF(), nn.Linear(256, 10), [0]

    def forward(self, x: Tensor) -> Tensor:
        self.calls[0] += 1
        logits: Tensor = self.fc(self.spike(x).flatten(1))
        return logits


def test_modules_of_others_are_called(images_BCHW: Tensor) -> None:
    student = Student(Counting(), T).eval()
    for _ in range(2):
        streamed(student, images_BCHW)
    assert cast(Counting, student.net).calls == [2 * T]


def test_a_copy_replays_its_own_parameters(images_BCHW: Tensor) -> None:
    student = awake()
    expected = streamed(student, images_BCHW)
    copies = [copy.deepcopy(student), pickle.loads(pickle.dumps(student))]
    for copied in copies:
        _written_in_place(copied)
        assert not torch.equal(streamed(copied, images_BCHW)[-1], expected[-1])
    assert_equal(streamed(student, images_BCHW), expected)


def test_nothing_of_a_stream_is_kept_but_its_functions(images_BCHW: Tensor) -> None:
    student = awake()
    images, kept = images_BCHW.clone(), list[ref[Tensor]]()
    for _ in range(2):
        steps = streamed(student, images)
        kept += [ref(images), *map(ref, steps)]
    del steps, images
    gc.collect()
    before = {id(each) for each in gc.get_objects() if isinstance(each, Tensor)}
    assert not [each for each in kept if each() is not None]
    assert {id(each) for each in [*student.parameters(), *student.buffers()]} <= before


def test_kinds_of_steps_are_forgotten_when_they_become_many(
    images_BCHW: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = awake()
    streamed(student, images_BCHW)
    kinds = list(student._capture._programs.values())
    monkeypatch.setattr(capture, "MOST_CALLS", sum(len(kind.calls) for kind in kinds if kind))
    for size in range(1, 9):
        images = torch.randn(size, 1, 16, 16)
        for _ in range(2):
            torch.testing.assert_close(torch.stack(streamed(student, images)), student(images))
        assert len(student._capture._programs) <= len(kinds)


PARAMETER, ELSEWHERE = torch.tensor([2.0, 3.0]), torch.ones(2)


def _writes(x: Tensor) -> Tensor:
    y = torch.empty_like(x)
    torch.mul(x, PARAMETER, out=y)
    y.add_(1)
    return y


def _sets(x: Tensor) -> Tensor:
    y = x.clone()
    y[0] = 5
    return y


def _plain(x: Tensor) -> Tensor:
    y = torch.nn.functional.pad(x * PARAMETER, (1, 1), value=0.5)
    return y[1:-1].clamp(max=x.shape[0]).to(x.dtype).add(y[..., :2], alpha=2)


@pytest.mark.parametrize("function", [_plain, _writes])
def test_a_recorded_function_does_the_same_with_other_numbers(function: Callable[[Tensor], Tensor]) -> None:
    x, other = torch.tensor([1.0, 2.0]), torch.tensor([-4.0, 0.5])
    with Recorder([x], [PARAMETER]) as recorder:
        y = function(x)
    program = recorder.program(y, {}, {})
    assert program is not None
    torch.testing.assert_close(program.step([other], {}, None), function(other), rtol=0, atol=0)
    results, let_go = {call.result for call in program.calls}, [at for call in program.calls for at in call.last]
    assert sorted(let_go) == sorted({0, *results} - {program.logits})  # each once: memory is free for what follows


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x * float(x[0]),
        lambda x: x * x.tolist()[1],
        lambda x: x + torch.from_numpy(x.numpy() * 2),
        lambda x: x + ELSEWHERE,
        lambda x: torch.stack([x, x]),
        lambda x: x.max(0).values,
        lambda x: x.unbind()[0],
        _sets,
    ],
    ids=["decides", "number", "list", "numpy", "elsewhere", "nested", "several", "unbind", "setitem"],
)
def test_what_a_list_of_functions_would_not_do_again_is_not_replayed(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.tensor([1.0, 2.0])
    with Recorder([x], [PARAMETER]) as recorder:
        y = function(x)
    assert recorder.program(y, {}, {}) is None
