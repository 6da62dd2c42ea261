import sys
from collections.abc import Callable
from math import exp, log
from types import ModuleType
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tser_lightning.errors import UsageError
from tser_lightning.losses import TSER, CrossEntropy, DistillationLoss, KLDivergence, LossTerms, Term

Build = Callable[..., Any]
Example = tuple[Tensor, Tensor, Tensor]
LOGIT_LOSSES = ["ce", "tet", "vanilla_kd", "ts_ce", "ts_kl", "ts", "vanilla_kd_er", "tser"]
# Which of the two comparisons is made per step, and whether the entropy is rewarded (Table 3).
TABLE_3 = {
    "vanilla_kd": (False, False, False),
    "ts_ce": (True, False, False),
    "ts_kl": (False, True, False),
    "ts": (True, True, False),
    "vanilla_kd_er": (False, False, True),
    "tser": (True, True, True),
}
seeds = st.integers(0, 10_000)
alphas = st.floats(0, 1)
taus = st.floats(0.5, 10)


def example(seed: int, steps: int = 3, images: int = 4, classes: int = 5) -> Example:
    draw = torch.Generator().manual_seed(seed)
    student_TBC = 3 * torch.randn(steps, images, classes, generator=draw, dtype=torch.float64)
    teacher_BC = 3 * torch.randn(images, classes, generator=draw, dtype=torch.float64)
    return student_TBC, teacher_BC, torch.randint(classes, (images,), generator=draw)


def softmax(row: list[float], tau: float) -> list[float]:
    odds = [exp((value - max(row)) / tau) for value in row]
    return [odd / sum(odds) for odd in odds]


def mean(rows: list[list[float]]) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def predictions(rows: list[list[float]], tau: float, separate: bool, of: str) -> list[list[float]]:
    """The student's distributions for one image: one per step, or the one of the mean of logits or probabilities."""
    if separate:
        return [softmax(row, tau) for row in rows]
    return [softmax(mean(rows), tau)] if of == "logits" else [mean([softmax(row, tau) for row in rows])]


def table_3(name: str, data: Example, alpha: float, tau: float, lam: float, of: str) -> float:
    """Eq. 7 to 11 image by image and step by step, with tau^2."""
    separate_ce, separate_kl, entropy = TABLE_3[name]
    student_TBC, teacher_BC, labels_B = data
    total = 0.0
    for b, label in enumerate(labels_B.tolist()):
        rows = student_TBC[:, b].tolist()
        hard = predictions(rows, 1, separate_ce, of)
        total += (1 - alpha) * sum(-log(p[label]) for p in hard) / len(hard)
        soft, teacher = predictions(rows, tau, separate_kl, of), softmax(teacher_BC[b].tolist(), tau)
        divergences = [sum(q * log(q / p) for q, p in zip(teacher, student, strict=True)) for student in soft]
        total += alpha * tau**2 * sum(divergences) / len(soft)
        if entropy:
            total += lam * sum(p * log(p) for row in rows for p in softmax(row, 1)) / len(rows)
    return total / len(labels_B)


@pytest.mark.parametrize("name", TABLE_3)
@pytest.mark.parametrize("of", ["logits", "probs"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=seeds, alpha=alphas, tau=taus, lam=st.floats(0, 0.2), steps=st.integers(1, 4))
def test_every_row_of_table_3_equals_a_loop(
    build: Build, name: str, of: str, seed: int, alpha: float, tau: float, lam: float, steps: int
) -> None:
    data = example(seed, steps)
    given_settings: dict[str, Any] = {"alpha": alpha, "tau": tau}
    separate_ce, separate_kl, entropy = TABLE_3[name]
    given_settings |= {"lam": lam} if entropy else {}
    given_settings |= {} if separate_ce and separate_kl else {"mean": of}
    found = build(name, **given_settings)(*data)
    assert found.total.item() == pytest.approx(table_3(name, data, alpha, tau, lam, of), abs=1e-10)


@pytest.mark.parametrize("of", ["logits", "probs"])
@given(seed=seeds, alpha=alphas, tau=taus)
@settings(max_examples=20, deadline=None)
def test_separation_changes_nothing_for_one_step_or_equal_steps(
    build: Build, of: str, seed: int, alpha: float, tau: float
) -> None:
    student_TBC, teacher_BC, labels_B = example(seed, steps=1)
    vanilla = build("vanilla_kd", alpha=alpha, tau=tau, mean=of)(student_TBC, teacher_BC, labels_B).total
    separated = build("ts", alpha=alpha, tau=tau)
    torch.testing.assert_close(separated(student_TBC, teacher_BC, labels_B).total, vanilla, rtol=0, atol=1e-10)
    equal_TBC = student_TBC.expand(4, -1, -1)
    torch.testing.assert_close(separated(equal_TBC, teacher_BC, labels_B).total, vanilla, rtol=0, atol=1e-10)


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_without_the_teacher_temporal_separation_is_tet_without_its_margin(build: Build, seed: int) -> None:
    student_TBC, teacher_BC, labels_B = example(seed)
    tet = build("tet", lam=0.0)(student_TBC, None, labels_B).total
    separated = build("ts", alpha=0.0)(student_TBC, teacher_BC, labels_B).total
    torch.testing.assert_close(separated, tet, rtol=0, atol=1e-12)
    per_step = [F.cross_entropy(student_BC, labels_B) for student_BC in student_TBC]
    torch.testing.assert_close(tet, torch.stack(per_step).mean(), rtol=0, atol=1e-12)


def test_tet_equals_its_published_form(build: Build) -> None:
    student_TBC, _, labels_B = example(0)
    cross_entropies = [F.cross_entropy(student_BC, labels_B).item() for student_BC in student_TBC]
    expected = (1 - 1e-3) * sum(cross_entropies) / 3 + 1e-3 * F.mse_loss(student_TBC, torch.ones(3, 4, 5).double())
    torch.testing.assert_close(build("tet")(student_TBC, None, labels_B).total, expected, rtol=0, atol=1e-10)


def test_ce_is_the_cross_entropy_of_the_mean_logits(build: Build) -> None:
    student_TBC, _, labels_B = example(0)
    expected = F.cross_entropy(student_TBC.mean(0), labels_B)
    torch.testing.assert_close(build("ce")(student_TBC, None, labels_B).total, expected, rtol=0, atol=1e-10)


@given(seed=seeds, tau=taus)
@settings(max_examples=20, deadline=None)
def test_a_student_that_is_its_teacher_has_nothing_left_to_learn_from_it(build: Build, seed: int, tau: float) -> None:
    _, teacher_BC, labels_B = example(seed)
    for name in ("vanilla_kd", "ts"):
        found = build(name, alpha=1.0, tau=tau)(teacher_BC.expand(3, -1, -1), teacher_BC, labels_B)
        assert found.total.item() == pytest.approx(0, abs=1e-10)


@given(seed=seeds, lam=st.floats(0, 0.2))
@settings(max_examples=20, deadline=None)
def test_the_entropy_lowers_the_loss_by_at_most_lam_log_c(build: Build, seed: int, lam: float) -> None:
    data = example(seed)
    gain = (build("tser", lam=lam)(*data).total - build("ts")(*data).total).item()
    assert -lam * log(5) - 1e-10 <= gain <= 1e-10


@pytest.mark.parametrize("name", LOGIT_LOSSES)
class TestEveryLogitLoss:
    def test_total_is_the_weighted_sum_of_the_parts(self, build: Build, name: str) -> None:
        found = build(name)(*example(0))
        assert isinstance(found, LossTerms)
        assert found.parts.keys() == found.weights.keys()
        expected = sum(found.weights[part] * found.parts[part].item() for part in found.parts)
        assert found.total.item() == pytest.approx(expected, abs=1e-12)

    def test_gradient(self, build: Build, name: str) -> None:
        student_TBC, teacher_BC, labels_B = example(0)
        loss = build(name)
        assert torch.autograd.gradcheck(
            lambda z: loss(z, teacher_BC, labels_B).total, student_TBC.requires_grad_(), fast_mode=True
        )

    def test_needs_no_features_and_trains_nothing_of_its_own(self, build: Build, name: str) -> None:
        loss = build(name)
        assert loss.student_taps == loss.teacher_taps == ()
        assert not list(loss.parameters())
        assert loss.needs_teacher == (name in TABLE_3)

    def test_one_hot_distributions_are_class_indices(self, build: Build, name: str) -> None:
        student_TBC, teacher_BC, labels_B = example(0)
        one_hot_BC = F.one_hot(labels_B, 5).double()
        found, expected = build(name)(student_TBC, teacher_BC, one_hot_BC), build(name)(*example(0))
        torch.testing.assert_close(found.total, expected.total, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_extreme_logits_stay_finite(self, build: Build, name: str, dtype: torch.dtype) -> None:
        student_TBC, teacher_BC, labels_B = example(0)
        student_TBC = (1e4 * student_TBC.sign()).to(dtype).requires_grad_()
        loss = build(name, **({"tau": 1e-2} if name in TABLE_3 else {}))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = loss(student_TBC, (1e4 * teacher_BC.sign()).to(dtype), labels_B)
        found.total.backward()
        assert found.total.dtype == torch.float32
        assert found.total.isfinite()
        assert student_TBC.grad is not None
        assert student_TBC.grad.isfinite().all()

    def test_a_missing_teacher_is_named(self, build: Build, name: str) -> None:
        student_TBC, _, labels_B = example(0)
        loss = build(name)
        if loss.needs_teacher:
            with pytest.raises(ValueError, match="teacher's logits are None"):
                loss(student_TBC, None, labels_B)
        else:
            assert loss(student_TBC, None, labels_B).total.isfinite()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("alpha", -0.1), ("alpha", 1.1), ("tau", 0.0), ("lam", -0.01), ("entropy_tau", 0.0), ("label_smoothing", 1.0)],
)
def test_a_setting_out_of_range_is_named(build: Build, setting: str, value: float) -> None:
    with pytest.raises(Exception, match=setting) as caught:
        build("tser", **{setting: value})
    assert isinstance(caught.value.__cause__, UsageError)


def test_a_setting_out_of_range_is_named_without_hydra() -> None:
    for wrong in ({"alpha": 2.0}, {"lam": -1.0}, {"tau": -1.0}, {"mean": "votes"}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            TSER(**wrong)


def test_terms_take_no_settings_that_would_do_nothing() -> None:
    with pytest.raises(TypeError, match="alpha"):
        DistillationLoss({"ce": CrossEntropy()}, alpha=0.3)  # type: ignore[call-arg]


def test_terms_are_terms_and_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least one"):
        DistillationLoss({})
    with pytest.raises(TypeError, match="'ce' must be"):
        DistillationLoss({"ce": nn.CrossEntropyLoss()})  # type: ignore[dict-item]


class Confidence(Term):
    """A user's own term."""

    def __init__(self, weight: float, power: int) -> None:
        super().__init__(weight)
        self.power = power

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> Tensor:
        return student_TBC.softmax(-1).amax(-1).pow(self.power).mean()


class Margin(nn.Module):
    """A user's own whole loss."""

    needs_teacher = False
    student_taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> LossTerms:
        part = F.multi_margin_loss(student_TBC.mean(0), labels_B, margin=self.margin)
        return LossTerms(part, {"margin": part}, {"margin": 1.0})


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("somebodys_losses")
    vars(module).update(Confidence=Confidence, Margin=Margin)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.__name__


def test_a_term_from_outside_the_package_joins_by_its_target(outside: str) -> None:
    terms = {
        "ce": {"_target_": "tser_lightning.losses.CrossEntropy", "weight": 0.5},
        "confidence": {"_target_": f"{outside}.Confidence", "weight": -0.1, "power": 2},
    }
    loss = instantiate({"_target_": "tser_lightning.losses.DistillationLoss", "terms": terms})
    found = loss(*example(0))
    probabilities_TBC = example(0)[0].softmax(-1)
    assert found.parts["confidence"].item() == pytest.approx((probabilities_TBC.max(-1).values ** 2).mean().item())
    expected = 0.5 * found.parts["ce"] - 0.1 * found.parts["confidence"]
    torch.testing.assert_close(found.total, expected)


def test_a_whole_loss_from_outside_the_package_works_by_its_target(outside: str) -> None:
    loss = instantiate({"_target_": f"{outside}.Margin", "margin": 2.0})
    found = loss(*example(0))
    assert found.total.item() > 0


class Tapping(Term):
    """A term that looks at one layer of each side."""

    needs_teacher = True

    def __init__(self, student: str, teacher: str) -> None:
        super().__init__()
        self.student_taps, self.teacher_taps = (student,), (teacher,)

    def forward(
        self,
        student_TBC: Tensor,
        teacher_BC: Tensor,
        labels_B: Tensor,
        student_features: dict[str, Tensor],
        teacher_features: dict[str, Tensor],
    ) -> Tensor:
        difference = student_features[self.student_taps[0]] - teacher_features[self.teacher_taps[0]]
        return difference.square().mean()


def test_features_reach_the_terms_that_ask_for_them() -> None:
    loss = DistillationLoss(
        {"ce": CrossEntropy(), "kl": KLDivergence(), "a": Tapping("stage4", "layer4"), "b": Tapping("stage4", "stem")}
    )
    assert loss.student_taps == ("stage4",)
    assert loss.teacher_taps == ("layer4", "stem")
    student_features = {"stage4": torch.ones(3, 4, 2)}
    teacher_features = {"layer4": torch.full((4, 2), 3.0), "stem": torch.zeros(4, 2)}
    found = loss(*example(0), student_features=student_features, teacher_features=teacher_features)
    assert (found.parts["a"].item(), found.parts["b"].item()) == (4.0, 1.0)
    with pytest.raises(ValueError, match=r"teacher_features.* stem"):
        loss(*example(0), student_features=student_features, teacher_features={"layer4": torch.ones(4, 2)})
    with pytest.raises(ValueError, match=r"student_features.* stage4"):
        loss(*example(0))


class TeacherAlone(Term):
    """A term that looks at a layer of the teacher and at none of the student."""

    teacher_taps = ("stem",)

    def forward(
        self,
        student_TBC: Tensor,
        teacher_BC: Tensor,
        labels_B: Tensor,
        student_features: dict[str, Tensor],
        teacher_features: dict[str, Tensor],
    ) -> Tensor:
        assert not student_features
        return teacher_features["stem"].mean()


def test_a_term_that_names_layers_of_the_teacher_alone_is_given_them() -> None:
    loss = DistillationLoss({"stem": TeacherAlone()})
    assert loss(*example(0), teacher_features={"stem": torch.full((4, 2), 3.0)}).parts["stem"].item() == 3.0


def test_weights_are_shown() -> None:
    assert "weight=-0.05" in repr(TSER(lam=0.05))
