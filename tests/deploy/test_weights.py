"""Where a student starts from. Published names are made here, by rules of their own, from networks of ours."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import tser_lightning as tl
from tser_lightning.deploy.layouts import LAYOUTS, CheckpointLayout, layout_of
from tser_lightning.deploy.weights import start_student
from tser_lightning.errors import UsageError
from tser_lightning.models import Network, Student, resnet18, sdt, sew_resnet18, sew_resnet50, spikformer, spikingformer
from tser_lightning.neurons import IF, LIF

Rules = list[tuple[str, str]]

RESIDUAL: Rules = [
    (r"(layer\d\.\d)\.conv(\d)\.", r"\1.conv\2.module.0."),
    (r"(layer\d\.\d)\.bn(\d)\.", r"\1.conv\2.module.1."),
]
SPIKFORMER: Rules = [
    (r"patch_embed\.patches\.0\.0\.0\.", "patch_embed.proj_conv."),
    (r"patch_embed\.patches\.0\.0\.1\.", "patch_embed.proj_bn."),
    (r"patch_embed\.patches\.(\d)\.0\.0\.", r"patch_embed.proj_conv\1."),
    (r"patch_embed\.patches\.(\d)\.0\.1\.", r"patch_embed.proj_bn\1."),
    (r"patch_embed\.position\.0\.", "patch_embed.rpe_conv."),
    (r"patch_embed\.position\.1\.", "patch_embed.rpe_bn."),
    (r"(block\.\d)\.(q|k|v|proj)\.0\.", r"\1.attn.\2_DENSE."),
    (r"(block\.\d)\.(q|k|v|proj)\.1\.", r"\1.attn.\2_bn."),
    (r"(block\.\d)\.mlp\.0\.0\.", r"\1.mlp.fc1_DENSE."),
    (r"(block\.\d)\.mlp\.0\.1\.", r"\1.mlp.fc1_bn."),
    (r"(block\.\d)\.mlp\.1\.0\.", r"\1.mlp.fc2_DENSE."),
    (r"(block\.\d)\.mlp\.1\.1\.", r"\1.mlp.fc2_bn."),
]


def branches(first: str, second: str) -> Rules:
    return [
        (r"(block\.\d)\.attn\.(q|k|v|proj)\.0\.", r"\1.attn.\2_conv."),
        (r"(block\.\d)\.attn\.(q|k|v|proj)\.1\.", r"\1.attn.\2_bn."),
        *((rf"(block\.\d)\.mlp\.{at}\.0\.", rf"\1.mlp.{name}_conv.") for at, name in ((1, first), (3, second))),
        *((rf"(block\.\d)\.mlp\.{at}\.1\.", rf"\1.mlp.{name}_bn.") for at, name in ((1, first), (3, second))),
    ]


def tokens(first: str, later: str) -> Rules:
    rules = [(r"patch_embed\.stem\.0\.", f"patch_embed.{first}_conv.")]
    rules += [(r"patch_embed\.stem\.1\.", f"patch_embed.{first}_bn.")]
    for number in range(1, 5):
        rules += [(rf"patch_embed\.patches\.{number - 1}\.2\.0\.", f"patch_embed.{later}{number}_conv.")]
        rules += [(rf"patch_embed\.patches\.{number - 1}\.2\.1\.", f"patch_embed.{later}{number}_bn.")]
    return rules


SDT: Rules = [
    (r"patch_embed\.patches\.0\.0\.", "patch_embed.proj_conv."),
    (r"patch_embed\.patches\.0\.1\.", "patch_embed.proj_bn."),
    (r"patch_embed\.patches\.(\d)\.0\.", r"patch_embed.proj_conv\1."),
    (r"patch_embed\.patches\.(\d)\.1\.", r"patch_embed.proj_bn\1."),
    (r"patch_embed\.position\.1\.0\.", "patch_embed.rpe_conv."),
    (r"patch_embed\.position\.1\.1\.", "patch_embed.rpe_bn."),
    *branches("fc1", "fc2"),
]
SMALL: dict[str, Any] = {"depth": 2, "dim": 32, "heads": 4}
CASES: dict[str, tuple[Callable[[], Network], Rules, str]] = {
    "SEW-ResNet": (
        lambda: sew_resnet18(10, 3, IF),
        [*RESIDUAL, (r"(layer\d\.\d\.downsample)\.", r"\1.0.module.")],
        "",
    ),
    "SEW-ResNet without containers": (
        lambda: sew_resnet50(10, 3, IF),
        [*((p, t.replace("module.", "")) for p, t in RESIDUAL), (r"(layer\d\.\d\.downsample)\.", r"\1.0.")],
        "",
    ),
    "the spiking ResNet beside SEW-ResNet": (
        lambda: resnet18(10, 3, IF, stem="imagenet"),
        [*RESIDUAL, (r"(layer\d\.\d\.downsample)\.", r"\1.module.")],
        "",
    ),
    "Spikformer for CIFAR": (lambda: spikformer(10, 3, LIF, **SMALL), SPIKFORMER, "linear"),
    "Spikformer for ImageNet": (lambda: spikformer(10, 3, LIF, patch_size=16, **SMALL), SPIKFORMER, "conv"),
    "Spikingformer for CIFAR": (
        lambda: spikingformer(10, 3, LIF, **SMALL),
        [*tokens("block0", "block"), *branches("mlp1", "mlp2")],
        "",
    ),
    "Spikingformer for ImageNet, or Spikingformer with CML": (
        lambda: spikingformer(10, 3, LIF, cml=True, **SMALL),
        [*tokens("proj", "proj"), *branches("mlp1", "mlp2")],
        "",
    ),
    "Spike-driven Transformer": (lambda: sdt(10, 3, LIF, **SMALL), SDT, ""),
}


def published(net: nn.Module, rules: Rules, dense: str) -> dict[str, Tensor]:
    """A state_dict as the public code saves it; its linear layers and 1-d convolutions have fewer axes."""
    state = {}
    for name, value in net.state_dict().items():
        for pattern, theirs in rules:
            new, found = re.subn(f"^{pattern}", theirs, name)
            if found:
                name = new.replace("DENSE", dense)
                break
        if "_linear." in name and value.ndim == 4:
            value = value[:, :, 0, 0]
        elif re.search(r"attn\.\w+_conv\.", name) and value.ndim == 4 and rules is not SDT:
            value = value[..., 0]
        state[name] = value
    return state


def found(state: dict[str, Tensor]) -> CheckpointLayout:
    layout = layout_of(state)
    assert layout is not None
    return layout


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("prefix", ["", "module.", "model.net."])
def test_published_names_become_ours(name: str, prefix: str) -> None:
    make, rules, dense = CASES[name]
    with torch.device("meta"):
        own = make().state_dict()
        theirs = {f"{prefix}{key}": value for key, value in published(make(), rules, dense).items()}
    assert theirs.keys() != own.keys()
    layout = found(theirs)
    assert name.startswith(layout.name)
    renamed = layout.renamed(theirs, own)
    assert {key: value.shape for key, value in renamed.items()} == {f"{prefix}{k}": v.shape for k, v in own.items()}


def test_every_layout_is_tested_and_our_own_names_are_none() -> None:
    assert all(any(name.startswith(layout.name) for name in CASES) for layout in LAYOUTS)
    with torch.device("meta"):
        for make, _, _ in CASES.values():
            assert layout_of(make().state_dict()) is None


def test_queries_without_biases_are_those_with_biases_of_zero() -> None:
    with torch.device("meta"):
        theirs = published(spikformer(10, 3, LIF, patch_size=16, **SMALL), SPIKFORMER, "conv")
    theirs = {name: torch.ones(value.shape) for name, value in theirs.items()}
    own = spikformer(10, 3, LIF, **SMALL).state_dict()
    renamed = found(theirs).renamed(theirs, own)
    assert renamed.keys() == own.keys()
    zeros = {name for name, value in renamed.items() if not value.any()}
    assert zeros == {f"block.{block}.{part}.0.bias" for block in (0, 1) for part in "qkv"}


def lively(net: nn.Module) -> nn.Module:
    """In float64, with norms of which neurons fire."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, 0, 1)
            assert module.running_mean is not None
            nn.init.normal_(module.running_mean, 0, 0.1)
    return net.double().eval()


BN = {"_target_": "torch.nn.BatchNorm2d"}
DECAYING = {"decay": 0.5, "decay_input": True, "v_threshold": 1.0, "reset": "hard", "surrogate": "sigmoid"}
CARDS: dict[str, dict[str, Any]] = {
    "if": {"neuron": {"_target_": "tser_lightning.neurons.IF", "v_threshold": 1.0, "reset": "hard"}, "norm": BN},
    "lif": {"neuron": {"_target_": "tser_lightning.neurons.LIF", **DECAYING}, "norm": BN},
}


def card(family: str, neuron: str = "lif", **settings: Any) -> dict[str, Any]:
    student = {"_target_": f"tser_lightning.models.{family}", **settings}
    return {**CARDS[neuron], "student": student, "num_classes": 10}


@pytest.mark.parametrize("family", ["sew_resnet18", "resnet18"])
def test_a_network_of_spikingjelly_gives_the_same_logits_to_the_last_bit(family: str, tmp_path: Path) -> None:
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based.model import sew_resnet, spiking_resnet

    make = sew_resnet.sew_resnet18 if family == "sew_resnet18" else spiking_resnet.spiking_resnet18
    extra = {"cnf": "ADD"} if family == "sew_resnet18" else {}
    theirs = lively(make(num_classes=10, spiking_neuron=neuron.IFNode, **extra))
    torch.save({"model": {f"module.{k}": v for k, v in theirs.state_dict().items()}}, tmp_path / "theirs.pth")
    ours = sew_resnet18(10, 3, IF) if family == "sew_resnet18" else resnet18(10, 3, IF, stem="imagenet")
    student = Student(ours.double().eval(), 3)
    start_student(student, str(tmp_path / "theirs.pth"), card(family, "if"))
    images_BCHW = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        functional.reset_net(theirs)
        expected_TBC = torch.stack([theirs(images_BCHW) for _ in range(3)])
        ours_TBC = student(images_BCHW)
    assert ours_TBC.std(1).max() > 1e-3
    assert torch.equal(ours_TBC, expected_TBC)


def case(name: str, folder: Path) -> tuple[nn.Module, Student, Path]:
    """A network with random weights, a student with others, and the first one's file as its authors would save it."""
    make, rules, dense = CASES[name]
    torch.manual_seed(1)
    source = make()
    torch.save({"state_dict": published(source, rules, dense)}, folder / "theirs.pth.tar")
    return source, Student(make(), 2), folder / "theirs.pth.tar"


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("name", ["Spikformer for CIFAR", "Spike-driven Transformer"])
def test_published_weights_load_and_the_map_is_said_aloud(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, student, file = case(name, tmp_path)
    family = "spikformer" if "Spikformer" in name else "sdt"
    with caplog.at_level(logging.INFO, "tser_lightning"):
        start_student(student, str(file), card(family, patch_size=4, **SMALL))
    assert equal(student.net.state_dict(), source.state_dict())
    assert f"the names are those of {name}" in caplog.text
    assert "does not say" in caplog.text


SPIKFORMER_CARD = card("spikformer", patch_size=4, **SMALL)


@pytest.mark.parametrize(
    ("wrong", "needed"),
    [
        (card("sdt", patch_size=4, **SMALL), "student=spikformer_4_384 student.depth=2 student.dim=32"),
        (card("spikformer", patch_size=16, **SMALL), "student.patch_size=4"),
        (card("spikformer", patch_size=4, depth=3, dim=32, heads=4), "student.depth=2"),
        (card("spikformer", "if", patch_size=4, **SMALL), "neuron=lif"),
        ({**SPIKFORMER_CARD, "num_classes": 100}, "data=NAME of its 10 classes"),
        ({**SPIKFORMER_CARD, "norm": {"_target_": "tser_lightning.models.TDBN"}}, "norm=bn"),
        ({**SPIKFORMER_CARD, "neuron": CARDS["lif"]["neuron"] | {"decay": 0.25}}, "neuron=lif neuron.decay=0.5"),
        ({**SPIKFORMER_CARD, "neuron": CARDS["lif"]["neuron"] | {"reset": "soft"}}, "neuron=lif neuron.reset=hard"),
    ],
)
def test_what_would_compute_something_else_is_refused_with_what_fits(
    wrong: dict[str, Any], needed: str, tmp_path: Path
) -> None:
    _, student, file = case("Spikformer for CIFAR", tmp_path)
    before = {name: value.clone() for name, value in student.net.state_dict().items()}
    with pytest.raises(UsageError) as caught:
        start_student(student, str(file), wrong)
    assert needed in caught.value.fix
    assert equal(student.net.state_dict(), before)


def test_a_cut_or_broken_checkpoint_and_learnt_leaks_are_refused(tmp_path: Path) -> None:
    _, student, file = case("Spikformer for CIFAR", tmp_path)
    state = torch.load(file)["state_dict"]
    name = "block.1.attn.k_bn.weight"
    for changed, message in (
        ({key: value for key, value in state.items() if key != name}, "1 are not in the file"),
        (state | {name: torch.full((32,), float("nan"))}, "NaN"),
        (state | {"block.0.attn.q_lif.w": torch.zeros(())}, "ParametricLIF"),
    ):
        torch.save({"state_dict": changed}, file)
        with pytest.raises(UsageError, match=message):
            start_student(student, str(file), SPIKFORMER_CARD)


def small(**settings: Any) -> Student:
    return tl.build_student("resnet_small", num_classes=10, in_channels=1, widths=[4, 8], **settings)


def test_a_student_starts_from_its_ann_twin_and_what_is_left_is_said(caplog: pytest.LogCaptureFixture) -> None:
    teacher = tl.build_teacher("resnet_small", num_classes=10, in_channels=1, weights=None, widths=[4, 8])
    student = small(neuron="plif")
    with caplog.at_level(logging.INFO, "tser_lightning"):
        start_student(student, "teacher", card("resnet_small"), teacher.net)
    own, theirs = student.net.state_dict(), teacher.net.state_dict()
    assert all(torch.equal(own[name], value) for name, value in theirs.items())
    assert "left as they are: act1.w" in caplog.text
    wider = tl.build_teacher("resnet_small", num_classes=10, in_channels=1, weights=None, widths=[8, 16])
    with pytest.raises(UsageError, match=r"conv1.weight: \[8, 1, 3, 3\] and \[4, 1, 3, 3\]"):
        start_student(student, "teacher", card("resnet_small"), wider.net)
    with pytest.raises(UsageError, match="there is no teacher"):
        start_student(student, "teacher", card("resnet_small"))


def test_a_student_starts_from_the_student_of_a_finished_run(tmp_path: Path) -> None:
    from tser_lightning.training import save_network

    source, theirs = small(), card("resnet_small", widths=[4, 8], timesteps=6)
    save_network(source, tmp_path / "student.safetensors", theirs)
    student = small(weights=f"run:{tmp_path}", timesteps=2)
    assert equal(student.state_dict(), source.state_dict())
    with pytest.raises(UsageError, match=r"neuron\.reset=hard"):
        small(weights=f"run:{tmp_path}", neuron={"name": "lif", "reset": "soft"})
    with pytest.raises(UsageError, match="no finished run"):
        start_student(student, f"run:{tmp_path / 'none'}", theirs)


@pytest.mark.parametrize("prefix", ["", "net.", "module.", "student.net.", "model."])
def test_our_own_names_are_found_below_every_wrapper(prefix: str, tmp_path: Path) -> None:
    source = small()
    save_file({f"{prefix}{name}": v for name, v in source.net.state_dict().items()}, tmp_path / "own.safetensors")
    assert equal(small(weights=str(tmp_path / "own.safetensors")).state_dict(), source.state_dict())


def test_a_published_checkpoint_is_taken_from_where_torch_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="figshare") as caught:
        start_student(small(), "published:sew_resnet18", card("sew_resnet18", "if", connect="add"))
    assert str(tmp_path / "hub" / "checkpoints" / "sew_resnet18.pth") in caught.value.fix
    with pytest.raises(UsageError, match="not a checkpoint of this student") as caught:
        start_student(small(), "published:sdt_8_768", card("sdt", depth=2, dim=512, heads=8, patch_size=4))
    assert caught.value.fix == "student.depth=8 student.dim=768 student.patch_size=16"
    with pytest.raises(UsageError, match="no checkpoint of this name"):
        start_student(small(), "published:resnet", card("resnet18"))


def test_a_student_of_given_weights_is_measured_without_a_run(tmp_path: Path) -> None:
    from tser_lightning.config.run import compose_run
    from tser_lightning.tasks.run_task import run_task

    save_file(small().state_dict(), tmp_path / "own.safetensors")
    command = [
        "task=evaluate",
        "student=resnet_small",
        "student.widths=[4,8]",
        f"student.weights={tmp_path / 'own.safetensors'}",
    ]
    place = [f"machine.runs_dir={tmp_path}", "machine.accelerator=cpu", "logging.wandb.mode=disabled"]
    result = run_task(compose_run([*command, *place, "student.timesteps=2"]))
    assert 0 <= result["test/acc"] <= 100
    assert "teacher/acc" not in result
    (record,) = (tmp_path / "evaluations").glob("*.json")
    assert json.loads(record.read_text())["test/acc"] == result["test/acc"]
    with pytest.raises(UsageError, match="run is not set"):
        compose_run(["task=evaluate"])
