import itertools
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.multiprocessing.spawn import start_processes
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from tser_lightning.measure import StudentMeasures, per_image
from tser_lightning.measure.agreement import CONFIDENT

T, B, C = 3, 101, 7
Floats = npt.NDArray[np.float64]


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels_B = torch.randint(0, C, (B,), generator=generator)
    signal_BC = 2.0 * torch.nn.functional.one_hot(labels_B, C)
    student_TBC = signal_BC + 1.5 * torch.randn(T, B, C, generator=generator)
    teacher_BC = 3 * (signal_BC + torch.randn(B, C, generator=generator))
    return student_TBC, teacher_BC, labels_B


def measured(*batches: tuple[Tensor, Tensor | None, Tensor]) -> dict[str, float]:
    measures = StudentMeasures(timesteps=T, num_classes=C)
    for one in batches:
        measures.update(*one)
    return measures.compute()


def softmax(z: Floats) -> Floats:
    e = np.exp(z - z.max())
    return np.asarray(e / e.sum())


def by_loops(student: Floats, teacher: Floats, labels: npt.NDArray[np.int64]) -> dict[str, float]:
    sums: dict[str, float] = {}
    fooled = 0

    def add(name: str, value: float) -> None:
        sums[name] = sums.get(name, 0.0) + float(value)

    for b, label in enumerate(labels):
        mean = sum(student[t, b] for t in range(T)) / T
        p, q = softmax(mean), softmax(teacher[b])
        add("acc", np.argmax(mean) == label)
        add("acc5", label in np.argsort(-mean)[:5])
        for t in range(T):
            add(f"acc_t{t + 1}", np.argmax(sum(student[s, b] for s in range(t + 1))) == label)
            add(f"acc_step{t + 1}", np.argmax(student[t, b]) == label)
            step = softmax(student[t, b])
            add(f"entropy_step{t + 1}", -sum(x * math.log(x) for x in step))
        add("entropy", -sum(x * math.log(x) for x in p))
        add("agreement", p.argmax() == q.argmax())
        add("kl_teacher", sum(y * math.log(y / x) for x, y in zip(p, q, strict=True)))
        add("teacher_acc", q.argmax() == label)
        if q.argmax() != label and q.max() > CONFIDENT:
            fooled += 1
            add("acc_teacher_fooled", p.argmax() == label)
            add("copied_teacher_fooled", p.argmax() == q.argmax())
    means = {name: total / (fooled if name.endswith("fooled") else B) for name, total in sums.items()}
    means["teacher_fooled"] = fooled / B
    return {k: v if k.startswith(("entropy", "kl")) else 100 * v for k, v in means.items()}


def test_every_measure_equals_a_loop_over_the_images() -> None:
    student_TBC, teacher_BC, labels_B = batch()
    result = measured((student_TBC, teacher_BC, labels_B))
    expected = by_loops(student_TBC.double().numpy(), teacher_BC.double().numpy(), labels_B.numpy())
    assert expected["teacher_fooled"] > 0
    assert {name for name in result if not name.startswith("ece")} == set(expected)
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, rel=1e-5), name


def test_accuracy_and_calibration_equal_those_of_torchmetrics() -> None:
    student_TBC, teacher_BC, labels_B = batch(1)
    result = measured((student_TBC, teacher_BC, labels_B))
    logits = {"": student_TBC.mean(0)} | {f"_step{t + 1}": student_TBC[t] for t in range(T)}
    for suffix, logits_BC in logits.items():
        accuracy = multiclass_accuracy(logits_BC, labels_B, C, average="micro")
        assert result[f"acc{suffix}"] == pytest.approx(100 * accuracy.item(), rel=1e-6)
        error = multiclass_calibration_error(logits_BC.softmax(-1), labels_B, C, n_bins=15)
        assert result[f"ece{suffix}"] == pytest.approx(100 * error.item(), rel=1e-5)
    best5 = multiclass_accuracy(student_TBC.mean(0), labels_B, C, average="micro", top_k=5)
    assert result["acc5"] == pytest.approx(100 * best5.item(), rel=1e-6)


def test_a_hand_worked_batch() -> None:
    # Two steps, two classes, both images of class 0. The mean of image 0 is (1, 0), that of image 1 is (0, 0.5).
    student_TBC = torch.tensor([[[2.0, 0.0], [0.0, 3.0]], [[0.0, 0.0], [0.0, -2.0]]])
    teacher_BC = torch.tensor([[1.0, 0.0], [0.0, math.log(9)]])  # image 1: wrong with probability 0.9
    measures = StudentMeasures(timesteps=2, num_classes=2)
    measures.update(student_TBC, teacher_BC, torch.tensor([0, 0]))
    result = measures.compute()
    assert (result["acc"], result["acc_t1"], result["acc_t2"]) == (50, 50, 50)
    assert (result["acc_step1"], result["acc_step2"]) == (50, 100)  # a tie goes to the first class
    assert (result["agreement"], result["teacher_fooled"], result["copied_teacher_fooled"]) == (100, 50, 100)
    assert result["acc_teacher_fooled"] == 0
    assert "acc5" not in result
    sure = [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-0.5))]  # 0.731 and 0.622: two bins of one image
    assert result["ece"] == pytest.approx(100 * ((1 - sure[0]) + sure[1]) / 2, rel=1e-6)


def test_certain_predictions_share_the_last_bin_with_nearly_certain_ones() -> None:
    logits_TBC = torch.tensor([[[200.0, 0.0], [4.0, 0.0]]])  # confidences 1 and 0.982, one of them wrong
    measures = StudentMeasures(timesteps=1, num_classes=2)
    measures.update(logits_TBC, None, torch.tensor([0, 1]))
    assert measures.compute()["ece"] == pytest.approx(100 * ((1 + 1 / (1 + math.exp(-4))) / 2 - 0.5), rel=1e-6)


@pytest.mark.parametrize("cuts", [[1], [50, 51], [3, 4, 90]])
def test_the_split_into_batches_changes_no_bit(cuts: list[int]) -> None:
    student_TBC, teacher_BC, labels_B = batch()
    edges = [0, *cuts, B]
    parts = [(student_TBC[:, i:j], teacher_BC[i:j], labels_B[i:j]) for i, j in itertools.pairwise(edges)]
    assert measured(*parts) == measured((student_TBC, teacher_BC, labels_B))


def _measure_a_share(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    student_TBC, teacher_BC, labels_B = batch()
    share = slice(0, 70) if rank == 0 else slice(70, B)
    measures = StudentMeasures(timesteps=T, num_classes=C)
    measures.update(student_TBC[:, share], teacher_BC[share], labels_B[share])
    torch.save(measures.compute(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_with_uneven_shares_give_the_same_bits_as_one(tmp_path: Path) -> None:
    start_processes(_measure_a_share, (str(tmp_path),), nprocs=2, start_method="fork")
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    assert results[0] == results[1] == measured(batch())


def test_without_a_teacher_nothing_is_said_about_one() -> None:
    student_TBC, teacher_BC, labels_B = batch()
    alone, both = measured((student_TBC, None, labels_B)), measured((student_TBC, teacher_BC, labels_B))
    assert not [name for name in alone if "teacher" in name or name == "agreement"]
    assert alone == {name: both[name] for name in alone}


def test_a_reset_forgets_and_no_data_give_no_numbers() -> None:
    measures = StudentMeasures(timesteps=T, num_classes=C)
    measures.update(*batch(1))
    measures.reset()
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert measures.compute() == {}
    measures.update(*batch(0))
    assert measures.compute() == measured(batch(0))


def test_logits_that_are_not_finite_make_means_nan_and_leave_counts() -> None:
    student_TBC, teacher_BC, labels_B = batch()
    student_TBC[0, 0, 0] = math.nan
    result = measured((student_TBC, teacher_BC, labels_B))
    assert math.isnan(result["entropy"])
    assert math.isnan(result["ece"])
    assert 0 < result["acc"] <= 100


def test_half_precision_logits_are_averaged_in_single() -> None:
    student_TBC, teacher_BC, labels_B = (x.bfloat16() if x.is_floating_point() else x for x in batch())
    expected = measured((student_TBC.float(), teacher_BC.float(), labels_B))
    assert measured((student_TBC, teacher_BC, labels_B)) == expected


def test_another_number_of_steps_is_refused() -> None:
    student_TBC, teacher_BC, labels_B = batch()
    with pytest.raises(ValueError, match="2 steps and 7 classes"):
        StudentMeasures(timesteps=T, num_classes=C).update(student_TBC[:2], teacher_BC, labels_B)
    with pytest.raises(ValueError, match="class indices"):
        StudentMeasures(timesteps=T, num_classes=C).update(student_TBC, teacher_BC, torch.rand(B, C))


def test_an_update_waits_for_no_device() -> None:
    # A meta tensor has no values: whatever asks for one fails.
    measures = StudentMeasures(timesteps=T, num_classes=C).to("meta")
    student_TBC, teacher_BC, labels_B = (x.to("meta") for x in batch())
    measures.update(student_TBC, teacher_BC, labels_B)
    with pytest.raises(RuntimeError, match="meta"):
        measures.compute()


def test_a_function_of_ones_own_is_averaged_over_all_images_and_its_names_are_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def largest(student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> dict[str, Tensor]:
        return {"largest": student_TBC.mean(0).amax(-1)}

    own = per_image.PerImage(largest, needs_teacher=False)
    monkeypatch.setattr(per_image, "_DECLARED", [*per_image._DECLARED, own])
    measures = StudentMeasures(2, 3)
    measures.update(torch.tensor([[[1.0, 0.0, 0.0]], [[3.0, 0.0, 0.0]]]), None, torch.tensor([0]))  # 2
    measures.update(torch.tensor([[[0.0, 8.0, 0.0], [0.0, 0.0, 1.0]]] * 2), None, torch.tensor([0, 2]))  # 8, 1
    assert measures.compute()["largest"] == pytest.approx(11 / 3)
    monkeypatch.setattr(per_image, "_DECLARED", [*per_image._DECLARED, own])
    with pytest.raises(ValueError, match="two functions with @per_image give largest"):
        StudentMeasures(2, 3)
