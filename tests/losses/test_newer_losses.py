"""The losses after the paper, against slow references in plain Python and against the numbers of public code.

PUBLIC holds what the public functions give for the tensors of `wave` in float64: the value, and its derivative in the
direction of `wave` with frequency 0.9. Sources: Intelli-Chip-Lab/snn_temporal_decoupling_distillation (tdd),
KaiSUN1/SeAl (sealkd), sunshangquan/logit-standardization-KD (dkd, logit_standardization), the DIST class of its authors
(dist), SinoLeu/CKDSNN (nld, samd), Maybe2022/SAKD (sakd).
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tser_lightning.errors import UsageError
from tser_lightning.losses import (
    CKDSNN,
    DIST,
    DKD,
    HTAKL,
    MEOM,
    TDD,
    Heads,
    IMLoss,
    KLDivergence,
    LogitStandardization,
    LossContext,
    NoisyLogits,
    SaliencyMaps,
    SeAlKD,
    Standardised,
    StrongToWeak,
    TransformedFeature,
    WeakToStrong,
)

Build = Callable[..., Any]
T, B, C = 4, 6, 5
LATE = LossContext(progress=0.5)
PUBLIC = {
    "tdd": (5.023368362399, 0.086511538565),
    "sealkd": (6.360714018046, 0.029217399064),
    "dkd": (40.319167152300, -0.086216477637),
    "dkd standardised": (8.652387977322, 0.112902812430),
    "logit_standardization mean": (8.008836073788, 0.032831718670),
    "logit_standardization steps": (7.797448373115, -0.008128448597),
    "dist": (75.572336409222, 0.089588916543),
    "nld": (3.724416186683, -0.021596595569),
    "samd": (0.025237881960, -0.000061691423),
    "sakd": (2.461270352406, -0.000118890935),
}


def wave(*shape: int, f: float, a: float) -> Tensor:
    values: Tensor = a * torch.sin(f * torch.arange(math.prod(shape), dtype=torch.float64) + 0.3)
    return values.reshape(shape)


def logits() -> tuple[Tensor, Tensor, Tensor]:
    student_TBC = wave(T, B, C, f=1.7, a=3.0).requires_grad_()
    return student_TBC, wave(B, C, f=2.3, a=4.0), torch.tensor([0, 1, 2, 3, 4, 1])


def slope(value: Tensor, of: Tensor) -> float:
    (gradient,) = torch.autograd.grad(value, of)
    return float((gradient * wave(*of.shape, f=0.9, a=1.0)).sum())


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("tdd", TDD()),
        ("sealkd", SeAlKD()),
        ("dkd", DKD()),
        ("dkd standardised", DKD(standardise=True)),
        ("logit_standardization mean", LogitStandardization(over="mean_logits")),
        ("logit_standardization steps", LogitStandardization()),
        ("dist", DIST()),
        ("nld", NoisyLogits()),
    ],
)
def test_logit_losses_give_the_numbers_of_their_public_code(name: str, loss: nn.Module) -> None:
    student_TBC, teacher_BC, labels_B = logits()
    torch.manual_seed(5)
    found = loss(student_TBC, teacher_BC, labels_B, **({"context": LATE} if "dkd" in name else {}))
    total = found if isinstance(found, Tensor) else found.total
    value, derivative = PUBLIC[name]
    assert total.item() == pytest.approx(value, rel=1e-7)
    assert slope(total, student_TBC) == pytest.approx(derivative, rel=1e-6)


def test_maps_give_the_numbers_of_their_public_code() -> None:
    spikes_TBCHW, teacher_BCHW = (
        (wave(T, B, 3, 4, 4, f=1.1, a=1.0) + 1).requires_grad_(),
        wave(B, 7, 4, 4, f=0.7, a=1.0) + 1,
    )
    head = nn.Linear(7, C, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(wave(C, 7, f=1.3, a=1.0))
    student_TBC, teacher_BC, labels_B = logits()
    seen = {"student_features": {"stage4": spikes_TBCHW}, "teacher_features": {"stage4": teacher_BCHW}}
    context = LossContext(heads=Heads(head, head), **seen)
    found = SaliencyMaps()(student_TBC, teacher_BC, labels_B, context=context)
    assert found.item() == pytest.approx(PUBLIC["samd"][0], rel=1e-7)
    assert slope(found, spikes_TBCHW) == pytest.approx(PUBLIC["samd"][1], rel=1e-6)
    term = TransformedFeature(1.0, ["stage4"], ["stage4"])
    term(student_TBC, teacher_BC, labels_B, context)
    with torch.no_grad():
        term.get_parameter("transforms.0.layers.0.weight").copy_(wave(7, 3, 3, 3, f=1.9, a=0.3))
    found = term(student_TBC, teacher_BC, labels_B, context)
    assert found.item() == pytest.approx(PUBLIC["sakd"][0], rel=1e-7)
    assert slope(found, spikes_TBCHW) == pytest.approx(PUBLIC["sakd"][1], rel=1e-5)


# ------------------------------------------------------------------ slow references, a list of floats at a time
Row = list[float]


def softmax(row: Row, tau: float = 1.0) -> Row:
    powers = [math.exp(value / tau) for value in row]
    return [power / sum(powers) for power in powers]


def kl(target: Row, row: Row, tau: float) -> float:
    pairs = zip(softmax(target, tau), softmax(row, tau), strict=True)
    return tau**2 * sum(p * math.log(p / s) for p, s in pairs)


def ce(row: Row, label: int) -> float:
    return -math.log(softmax(row)[label])


def mean(rows: list[Row]) -> Row:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def argmax(row: Row) -> int:
    return max(range(len(row)), key=row.__getitem__)


def unit(row: Row) -> Row:
    average, size = sum(row) / len(row), len(row) - 1
    deviation = math.sqrt(sum((value - average) ** 2 for value in row) / size)
    return [(value - average) / (deviation + 1e-7) for value in row]


def pearson(a: Row, b: Row) -> float:
    a, b = [x - sum(a) / len(a) for x in a], [x - sum(b) / len(b) for x in b]
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def tdd(z: list[Row], q: Row, y: int) -> float:
    right = [row for row in z if argmax(row) == y]
    s = mean(right) if right else [0.0] * C
    return sum(ce(row, y) + 0.2 * kl(q, row, 3) + 0.5 * kl(s, row, 3) for row in z) / T


def sealkd(z: list[Row], q: Row, y: int) -> float:
    total = 0.0
    for t, row in enumerate(z):
        own, other, w = list(row), list(q), argmax(row)
        if w != y:
            own[w] = own[y]
            other[w] = other[y] = min(q[w], q[y])
        scores = {}
        for u in (step for step in range(T) if step != t):
            entropy = -sum(p * math.log(p) for p in softmax(z[u]))
            length = math.sqrt(sum(x * x for x in row) * sum(x * x for x in z[u]))
            cosine = sum(x * v for x, v in zip(row, z[u], strict=True)) / length
            scores[u] = math.exp((1 - entropy / math.log(C)) * cosine)
        target = [sum(scores[u] * z[u][c] for u in scores) / sum(scores.values()) for c in range(C)]
        total += ce(row, y) + 0.6 * kl(other, own, 3) + 0.15 * kl(target, row, 3)
    return total / T


def meom(z: list[Row], q: Row, y: int) -> float:
    total = sum(ce(row, y) + 0.5 * kl(q, row, 3) for row in z) / T
    means = [mean(z[: t + 1]) for t in range(T)]
    pairs = [(softmax(means[t + 1]), softmax(means[t])) for t in range(T - 1)]
    return total + 0.3 * sum(-p * math.log(s) for target, own in pairs for p, s in zip(target, own, strict=True)) / (
        T - 1
    )


def hta_kl(z: list[Row], q: Row, y: int) -> float:
    p, s = softmax(q, 4), softmax(mean(z), 4)
    head, mass = set(), 0.0
    for c in sorted(range(C), key=lambda c: -p[c]):
        if mass < 0.5:
            head.add(c)
        mass += p[c]
    w = sum(abs(p[c] - s[c]) for c in head) / sum(abs(p[c] - s[c]) for c in range(C))
    return 0.5 * ce(mean(z), y) + 0.5 * (w * kl(q, mean(z), 4) + (1 - w) * kl(mean(z), q, 4))


def dkd(z: list[Row], q: Row, y: int) -> float:
    row = mean(z)
    p, s = softmax(q, 4), softmax(row, 4)
    target = p[y] * math.log(p[y] / s[y]) + (1 - p[y]) * math.log((1 - p[y]) / (1 - s[y]))
    others = [c for c in range(C) if c != y]
    return ce(row, y) + 16 * target + 8 * kl([q[c] for c in others], [row[c] for c in others], 4)


def standardised(z: list[Row], q: Row, y: int) -> float:
    return sum(0.1 * ce(row, y) + 9 * kl(unit(q), unit(row), 2) for row in z) / T


@pytest.mark.parametrize(
    ("reference", "loss"),
    [
        (tdd, TDD()),
        (sealkd, SeAlKD()),
        (meom, MEOM()),
        (hta_kl, HTAKL()),
        (dkd, DKD(warmup=0)),
        (standardised, LogitStandardization()),
    ],
)
def test_losses_of_single_images_are_those_of_a_slow_reference(reference: Any, loss: nn.Module) -> None:
    torch.manual_seed(0)
    student_TBC, teacher_BC, labels_B = (
        2 * torch.randn(T, 8, C).double(),
        torch.randn(8, C).double(),
        torch.randint(C, (8,)),
    )
    student_TBC[0, :4] += 4 * F.one_hot(labels_B[:4], C)
    student_TBC[:, -1] -= 9 * F.one_hot(labels_B[-1:], C)
    right_B = (student_TBC.argmax(-1) == labels_B).sum(0)
    assert right_B[:4].all()
    assert right_B[-1] == 0
    expected = [reference(student_TBC[:, b].tolist(), teacher_BC[b].tolist(), int(labels_B[b])) for b in range(8)]
    assert float(loss(student_TBC, teacher_BC, labels_B).total) == pytest.approx(sum(expected) / 8, rel=1e-6)


@pytest.mark.parametrize(("loss", "strong_teaches"), [(StrongToWeak(lam=0.7), True), (WeakToStrong(lam=0.7), False)])
def test_the_surest_and_the_least_sure_step_of_the_batch_are_compared(loss: nn.Module, strong_teaches: bool) -> None:
    student_TBC, _, labels_B = logits()
    z = [[row.tolist() for row in step] for step in student_TBC.detach()]
    sure = [sum(max(softmax(row)) for row in step) / B for step in z]
    strong, weak = z[argmax(sure)], z[argmax([-value for value in sure])]
    teacher, learner = (strong, weak) if strong_teaches else (weak, strong)
    hard = sum(ce(mean([step[b] for step in z]), int(labels_B[b])) for b in range(B)) / B
    expected = hard + 0.7 * sum(kl(teacher[b], learner[b], 2) for b in range(B)) / B
    terms = loss(student_TBC, None, labels_B)
    assert float(terms.total) == pytest.approx(expected, rel=1e-9)
    (gradient,) = torch.autograd.grad(terms.parts["self_kl"], student_TBC)
    learns = argmax([-value for value in sure] if strong_teaches else sure)
    assert [bool(step.any()) for step in gradient] == [t == learns for t in range(T)]


def test_dist_is_that_of_a_slow_reference() -> None:
    student_TBC, teacher_BC, labels_B = logits()
    rows = [mean([student_TBC[t, b].tolist() for t in range(T)]) for b in range(B)]
    s, p = [softmax(row, 4) for row in rows], [softmax(row.tolist(), 4) for row in teacher_BC]
    inter = sum(1 - pearson(a, b) for a, b in zip(s, p, strict=True)) / B
    columns = zip(zip(*s, strict=True), zip(*p, strict=True), strict=True)
    intra = sum(1 - pearson(list(a), list(b)) for a, b in columns) / C
    hard = sum(ce(row, int(y)) for row, y in zip(rows, labels_B, strict=True)) / B
    found = float(DIST()(student_TBC, teacher_BC, labels_B).total)
    assert found == pytest.approx(hard + 32 * inter + 32 * intra, rel=1e-6)


def test_im_loss_is_that_of_a_slow_reference() -> None:
    student_TBC, _, labels_B = logits()
    currents = {"a": wave(T, B, 3, f=0.31, a=1.0).requires_grad_(), "b": wave(T, B, 2, 2, f=0.7, a=0.4) + 0.2}
    terms = IMLoss(lam=0.005)(student_TBC, None, labels_B, context=LossContext(currents=currents))
    means = [sum(x.flatten().tolist()) / x.numel() for x in currents.values()]
    expected = sum((value - 0.5 / T) ** 2 for value in means) / 2
    assert float(terms.parts["im"]) == pytest.approx(expected, rel=1e-9)
    hard = sum(ce(mean([row.tolist() for row in student_TBC[:, b]]), int(labels_B[b])) for b in range(B)) / B
    assert float(terms.total) == pytest.approx(hard + 0.005 * expected, rel=1e-9)


def test_a_warm_up_is_a_line_of_the_training() -> None:
    loss = DKD(warmup=0.2, alpha=2.0)
    for progress, factor in ((0.0, 0.0), (0.05, 0.25), (0.2, 1.0), (0.9, 1.0)):
        weights = loss(*logits(), context=LossContext(progress=progress)).weights
        assert weights == pytest.approx({"ce": 1.0, "tckd": 2.0 * factor, "nckd": 8.0 * factor})


def test_standardised_logits_know_no_scale_and_no_shift() -> None:
    student_TBC, teacher_BC, labels_B = logits()
    term = Standardised(KLDivergence(1.0, "steps", 2.0))
    found = term(3 * student_TBC + 7, 0.5 * teacher_BC - 1, labels_B)
    torch.testing.assert_close(found, term(student_TBC, teacher_BC, labels_B), rtol=1e-6, atol=1e-9)


EVERY = [TDD, SeAlKD, MEOM, HTAKL, DIST, LogitStandardization, StrongToWeak, WeakToStrong]


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("shape", [(1, 4, 5), (4, 1, 5), (1, 1, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_single_step_or_image_and_half_precision_have_finite_gradients(
    method: Any, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    student_TBC = torch.randn(shape).to(dtype).requires_grad_()
    labels_B = torch.zeros(shape[1], dtype=torch.long)
    method()(student_TBC, torch.randn(shape[1:]).to(dtype), labels_B).total.backward()
    assert student_TBC.grad is not None
    assert student_TBC.grad.isfinite().all()


@pytest.mark.parametrize("method", [TDD, SeAlKD])
def test_a_mixed_label_counts_as_its_largest_class_where_a_class_is_needed(method: Any) -> None:
    student_TBC, teacher_BC, labels_B = logits()
    mixed_BC = 0.7 * F.one_hot(labels_B, C).double() + 0.3 / C
    hard, soft = method()(student_TBC, teacher_BC, labels_B), method()(student_TBC, teacher_BC, mixed_BC)
    assert all(torch.equal(hard.parts[name], part) for name, part in soft.parts.items() if name != "ce")


def seen_by(head: nn.Module, channels: int) -> dict[str, LossContext]:
    student = {"stage4": wave(T, B, 3, 4, 4, f=1.1, a=1.0) + 1}
    teacher = {"stage4": wave(B, channels, 4, 4, f=0.7, a=1.0) + 1}
    heads = Heads(head, head)
    return {"context": LossContext(heads=heads, student_features=student, teacher_features=teacher)}


def test_a_classifier_that_sees_a_grid_has_its_weights_in_every_cell() -> None:
    torch.manual_seed(0)
    whole, cells = nn.Linear(7, C).double(), nn.Linear(7 * 4, C).double()
    with torch.no_grad():
        cells.weight.copy_(whole.weight.repeat_interleave(4, dim=1))
    expected = SaliencyMaps()(*logits(), **seen_by(whole, 7))
    torch.testing.assert_close(SaliencyMaps()(*logits(), **seen_by(cells, 7)), expected)
    with torch.no_grad():
        cells.weight.view(C, 7, 2, 2)[..., 1].zero_()  # it no longer looks at the right half
    found = SaliencyMaps()._seen(wave(B, 7, 4, 4, f=0.7, a=1.0) + 1, logits()[1], seen_by(cells, 7)["context"])
    assert found[..., :2].any()
    assert not found[..., 2:].any()


def test_a_classifier_that_does_not_see_averages_of_the_map_is_named() -> None:
    with pytest.raises(UsageError, match="15 inputs"):
        CKDSNN()(*logits(), **seen_by(nn.Linear(15, C), 7))


@pytest.mark.parametrize(
    "settings",
    [
        {"method": TDD, "tau": 0},
        {"method": SeAlKD, "alpha": -1},
        {"method": HTAKL, "head": 2},
        {"method": DKD, "over": "mean_probs"},
        {"method": CKDSNN, "clean": 1.5},
        {"method": IMLoss, "lam": -1},
    ],
    ids=str,
)
def test_a_value_out_of_its_range_is_refused(settings: dict[str, Any]) -> None:
    method = settings.pop("method")
    with pytest.raises(UsageError, match=next(iter(settings))):
        method(**settings)


METHODS = {"tdd": TDD, "sealkd": SeAlKD, "meom": MEOM, "hta_kl": HTAKL, "dkd": DKD, "dist": DIST}


@pytest.mark.parametrize("name", METHODS)
def test_defaults_are_those_of_the_config_files(build: Build, name: str) -> None:
    asked = {"context": LATE} if name == "dkd" else {}
    found, expected = (loss(*logits(), **asked) for loss in (METHODS[name](), build(name)))
    assert torch.equal(found.total, expected.total)
