"""KDSNN, LaSNN and BKDSNN as their config files make them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tser_lightning.errors import UsageError

Build = Callable[..., Any]
Features = dict[str, Tensor]
STAGES = ("stage1", "stage2", "stage3", "stage4")
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("kdsnn", {"mode": "response"}),
    ("kdsnn", {"mode": "feature"}),
    ("kdsnn", {"mode": "joint"}),
    ("lasnn", {"map": "attention"}),
    ("lasnn", {"map": "mse"}),
    ("bkdsnn", {}),
    ("bkdsnn", {"clip": True}),
]
STEPS, IMAGES = 2, 3
# What the four stages of a network give for one image; the time axis comes on top for a student.
FAMILIES: dict[str, list[tuple[int, ...]]] = {
    "cnn": [(8, 8, 8), (16, 8, 8), (32, 4, 4), (32, 2, 2)],
    "wide cnn": [(16, 16, 16), (24, 16, 16), (48, 8, 8), (64, 7, 7)],
    "maps of a spiking transformer": [(12, 8, 8)] * 4,
    "tokens": [(64, 12)] * 4,
    "vit": [(197, 24)] * 4,
    "tokens of no square": [(7, 12)] * 4,
    "vectors": [(20,)] * 4,
}


def logits() -> tuple[Tensor, Tensor, Tensor]:
    student_TBC = torch.randn(STEPS, IMAGES, 5, dtype=torch.float64, requires_grad=True)
    return student_TBC, torch.randn(IMAGES, 5, dtype=torch.float64), torch.tensor([0, 4, 2])


def features(family: str, *leading: int, dtype: torch.dtype = torch.float64) -> Features:
    shapes = zip(STAGES, FAMILIES[family], strict=True)
    return {stage: torch.rand(*leading, *shape).to(dtype).requires_grad_() for stage, shape in shapes}


@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=str)
@pytest.mark.parametrize("teacher", FAMILIES)
@pytest.mark.parametrize("student", FAMILIES)
def test_every_pair_of_families_trains(
    build: Build, name: str, variant: dict[str, Any], student: str, teacher: str
) -> None:
    loss = build(name, **variant)
    student_features, teacher_features = features(student, STEPS, IMAGES), features(teacher, IMAGES)
    found = loss(*logits(), student_features=student_features, teacher_features=teacher_features)
    found.total.backward()
    assert found.total.isfinite()
    for tap in loss.student_taps:
        gradient = student_features[tap].grad
        assert gradient is not None
        assert gradient.isfinite().all()
    assert all(parameter.grad is not None for parameter in loss.parameters())
    assert all(feature.grad is None for feature in teacher_features.values())


@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=str)
def test_a_trained_loss_is_loaded_after_a_call_on_zeros(build: Build, name: str, variant: dict[str, Any]) -> None:
    trained, fresh = build(name, **variant), build(name, **variant)
    data = logits()
    student_features, teacher_features = features("cnn", STEPS, IMAGES), features("wide cnn", IMAGES)
    trained(*data, student_features=student_features, teacher_features=teacher_features)
    zeros = [
        {tap: torch.zeros_like(value) for tap, value in side.items()} for side in (student_features, teacher_features)
    ]
    fresh(*[torch.zeros_like(tensor) for tensor in data], student_features=zeros[0], teacher_features=zeros[1])
    fresh.load_state_dict(trained.state_dict())
    totals = []
    for loss in (trained, fresh):
        torch.manual_seed(0)
        totals.append(loss(*data, student_features=student_features, teacher_features=teacher_features).total)
    assert torch.equal(*totals)


@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=str)
def test_autocast_stays_float32_and_finite(build: Build, name: str, variant: dict[str, Any]) -> None:
    half = torch.bfloat16
    student_TBC, teacher_BC, labels_B = logits()
    with torch.autocast("cpu", dtype=half):
        found = build(name, **variant)(
            student_TBC.to(half),
            teacher_BC.to(half),
            labels_B,
            student_features=features("cnn", STEPS, IMAGES, dtype=half),
            teacher_features=features("wide cnn", IMAGES, dtype=half),
        )
    assert found.total.dtype == torch.float32
    assert found.total.isfinite()


def test_each_loss_taps_what_it_compares(build: Build) -> None:
    taps = {(name, *variant.values()): build(name, **variant).student_taps for name, variant in VARIANTS}
    assert taps["kdsnn", "response"] == ()
    assert taps["kdsnn", "joint"] == taps["bkdsnn",] == ("stage4",)
    assert taps["lasnn", "attention"] == taps["lasnn", "mse"] == STAGES
    assert build("bkdsnn", teacher_taps=["layer3.1"]).teacher_taps == ("layer3.1",)


@pytest.mark.parametrize("mode", ["response", "feature", "joint"])
def test_kdsnn_equals_its_formula(build: Build, mode: str) -> None:
    student_TBC, teacher_BC, labels_B = logits()
    loss = build("kdsnn", mode=mode, alpha=0.3, tau=4.0, beta=0.7)
    sides = {"stage4": torch.rand(STEPS, IMAGES, 4, 2, 2).double()}, {"stage4": torch.rand(IMAGES, 6, 2, 2).double()}
    found = loss(student_TBC, teacher_BC, labels_B, student_features=sides[0], teacher_features=sides[1]).total
    mean_BC = student_TBC.mean(0)
    expected = (1.0 if mode == "feature" else 0.7) * F.cross_entropy(mean_BC, labels_B)
    if mode != "feature":
        expected += 0.3 * 16 * F.cross_entropy(mean_BC / 4, (teacher_BC / 4).softmax(-1))
    if mode != "response":
        state = loss.state_dict()
        kernel, bias = (state[f"terms.feature.projections.0.conv.{part}"] for part in ("weight", "bias"))
        projected = torch.einsum("oi,bihw->bohw", kernel[..., 0, 0], sides[0]["stage4"].mean(0)) + bias[:, None, None]
        expected += 0.7 * F.mse_loss(projected, sides[1]["stage4"])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("map_", "beta"), [("attention", 10.0), ("mse", 7e-5)])
def test_lasnn_adds_its_stages_to_the_cross_entropy_of_the_mean(build: Build, map_: str, beta: float) -> None:
    student_TBC, _, labels_B = logits()
    sides = {"student_features": features("cnn", STEPS, IMAGES), "teacher_features": features("wide cnn", IMAGES)}
    found = build("lasnn", map=map_)(student_TBC, torch.zeros(IMAGES, 5), labels_B, **sides)
    assert found.weights == {"ce": 1.0, map_: beta}
    torch.testing.assert_close(found.parts["ce"], F.cross_entropy(student_TBC.mean(0), labels_B))
    torch.testing.assert_close(found.total, found.parts["ce"] + beta * found.parts[map_], rtol=0, atol=1e-10)
    assert build("lasnn", map=map_, beta=3.0).weights[map_] == 3.0


def test_bkdsnn_is_cross_entropy_plus_brd_plus_wsld(build: Build) -> None:
    sides = {"student_features": features("cnn", STEPS, IMAGES), "teacher_features": features("wide cnn", IMAGES)}
    found = build("bkdsnn", beta=2e-3)(*logits(), **sides)
    assert found.weights == {"ce": 1.0, "brd": 2e-3, "wsld": 1.0}
    expected = found.parts["ce"] + 2e-3 * found.parts["brd"] + found.parts["wsld"]
    torch.testing.assert_close(found.total, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("name", "setting"), [("kdsnn", "mode"), ("lasnn", "map")])
def test_an_unknown_variant_is_the_users_mistake(build: Build, name: str, setting: str) -> None:
    with pytest.raises(Exception, match=setting) as caught:
        build(name, **{setting: "both"})
    assert isinstance(caught.value.__cause__, UsageError)


def test_the_parts_of_kdsnn_are_called_what_they_are(build: Build) -> None:
    names = {mode: set(build("kdsnn", mode=mode).terms) for mode in ("joint", "response", "feature")}
    assert names["joint"] == {"ce", "soft_ce", "feature"}
    assert names["response"] == {"ce", "soft_ce"}
    assert names["feature"] == {"ce", "feature"}
