import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tser_lightning.errors import UsageError
from tser_lightning.training.teacher import SingleStep, Teacher, check_teacher
from tser_lightning.training.weights import load_weights


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3))


def test_it_stays_in_eval_mode_and_has_no_gradient() -> None:
    teacher = Teacher(network())
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    teacher.train()
    nn.Sequential(teacher).train()
    logits_BC = teacher(torch.rand(4, 1, 8, 8, requires_grad=True))
    assert not logits_BC.requires_grad
    assert not any(module.training for module in teacher.modules())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_it_sees_the_mean_of_event_frames() -> None:
    teacher, frames_TBCHW = Teacher(network()), torch.rand(3, 4, 1, 8, 8)
    torch.testing.assert_close(teacher(frames_TBCHW), teacher(frames_TBCHW.mean(0)))


def test_once_is_one_step() -> None:
    net = network().eval()
    images = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(SingleStep(net)(images), net(images)[None])


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "module."])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_come_back_from_a_file(tmp_path: Path, wrap: str, suffix: str) -> None:
    source, target = network(), network()
    nn.init.normal_(source[3].get_parameter("weight"))
    state = source.state_dict()
    if wrap == "module.":
        state = {f"module.{name}": value for name, value in state.items()}
    file = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save({"state_dict": state} if wrap == "state_dict" else state, file)
    load_weights(target, file)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())


def test_a_missing_foreign_damaged_or_hostile_file_is_a_mistake(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "executed",))  # type: ignore[return-value]

    save_file({"other": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    torch.save(network().state_dict(), tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:900])
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "foreign.safetensors").read_bytes()[:50])
    torch.save({"state_dict": Hostile()}, tmp_path / "hostile.pt")
    for name in ("absent.pt", "foreign.safetensors", "cut.pt", "cut.safetensors", "hostile.pt"):
        with pytest.raises(UsageError, match=name):
            load_weights(network(), tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_a_teacher_near_chance_is_refused() -> None:
    check_teacher(21.0, 10, "good")
    with pytest.raises(UsageError, match="normalisation"):
        check_teacher(19.0, 10, "bad")
    with pytest.raises(UsageError):
        check_teacher(55.0, 2, "bad")


def wrapped(state: dict[str, torch.Tensor]) -> dict[str, object]:
    """The same weights as training scripts leave them."""
    other = {name: value + 1 for name, value in state.items()}
    return {
        "scripts": {"net": state, "acc": 93.1, "epoch": 199},
        "tutorial": {"model_state_dict": state, "optimizer_state_dict": {"state": {0: {"exp_avg": torch.ones(2)}}}},
        "compiled": {f"_orig_mod.{name}": value for name, value in state.items()},
        "inside": {name.replace("3.", "3._orig_mod."): value for name, value in state.items()},
        "both": {f"module._orig_mod.{name}": value for name, value in state.items()},
        "lightning": {"state_dict": {f"net.{name}": value for name, value in state.items()}, "epoch": 3},
        "beside": {
            "state_dict": {f"student.net.{name}": value for name, value in state.items()} | {"loss.w": torch.ones(1)}
        },
        "args": {"state_dict": state, "args": argparse.Namespace(lr=0.1)},
        "twice": {"model": state, "model_ema": {name: value.clone() for name, value in state.items()}},
        "half": {name: value.half() if value.is_floating_point() else value for name, value in state.items()},
        "differing": {"model": state, "model_ema": other},
    }


@pytest.mark.parametrize("form", [name for name in wrapped({}) if name != "differing"])
def test_the_key_and_prefix_of_a_script_are_taken_off(
    tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    source, target = network(), network()
    nn.init.normal_(source[3].get_parameter("weight"))
    torch.save(wrapped(source.state_dict())[form], tmp_path / "w.pt")
    with caplog.at_level("INFO", "tser_lightning"):
        load_weights(target, tmp_path / "w.pt")
    expected = source.half().float() if form == "half" else source
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in target.state_dict().items())
    assert ("are those under" in caplog.text) == (form not in ("compiled", "inside", "half"))
    assert ("compiled network" in caplog.text) == (form in ("compiled", "inside", "both"))


def test_weights_that_cannot_be_told_apart_or_are_none_name_the_keys(tmp_path: Path) -> None:
    state = network().state_dict()
    nan = state | {"3.bias": torch.full((3,), torch.nan)}
    files = {
        r"'model'.*'model_ema'": wrapped(state)["differing"],
        r"more than tensors: torch\.nn\.modules": network(),
        "holds a list": [state],
        "the keys 'epoch'": {"epoch": 3},
        "the file alone has '0'; the network alone has '0.weight'": {0: torch.zeros(2)},
        r"why: the network alone has '3\.bias'\n": {name: value for name, value in state.items() if name != "3.bias"},
        r"why: the file alone has 'extra'\n": state | {"extra": torch.zeros(2)},
        r"1 of 9 tensors, the first is 3\.bias": nan,
    }
    for text, content in files.items():
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(UsageError, match=text) as caught:
            load_weights(network(), tmp_path / "w.pt")
        assert "\x1b" not in str(caught.value)


def test_of_our_own_checkpoints_the_averaged_weights_count(tmp_path: Path) -> None:
    source, other, target = network(), network(), network()
    content = {
        "state_dict": {f"student.net.{name}": value for name, value in other.state_dict().items()},
        "average": {
            "network": {f"net.{name}": value for name, value in source.state_dict().items()},
            "steps": torch.tensor(3),
        },
    }
    torch.save(content, tmp_path / "best.ckpt")
    load_weights(target, tmp_path / "best.ckpt")
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())


def test_counts_of_batches_may_be_missing_as_in_files_from_before_there_were_any(tmp_path: Path) -> None:
    source, target = network(), network()
    state = {name: value for name, value in source.state_dict().items() if "num_batches" not in name}
    assert len(state) < len(source.state_dict())
    torch.save(state, tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in state.items())


def test_what_differs_is_counted_once(tmp_path: Path) -> None:
    state = network().state_dict()
    torch.save({f"x{name}": value for name, value in state.items()}, tmp_path / "names.pt")
    with pytest.raises(UsageError, match="of its 9 tensors 9 are not in the file and 0 have another shape there; 9 of"):
        load_weights(network(), tmp_path / "names.pt")
    torch.save(state | {"0.weight": torch.zeros(2, 1, 7, 7)}, tmp_path / "stem.pt")
    with pytest.raises(UsageError, match=r"9 tensors 0 are not in the file and 1 have.*(?s:.*)teacher\.stem=imagenet"):
        load_weights(network(), tmp_path / "stem.pt")
