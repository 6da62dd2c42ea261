from collections.abc import Iterator
from typing import Any

import pytest

from tser_lightning.config.hydra_loader import Configs
from tser_lightning.report.published import PublishedAccuracy, paper, published

WITHOUT_DISTILLATION = {"mpbn", "glif", "lsg", "pfa", "im_lif"}


def entries(tree: dict[str, Any]) -> Iterator[tuple[str, str, Any, str]]:
    for data, students in tree.items():
        for student, steps in students.items():
            for timesteps, methods in steps.items():
                for method in methods:
                    yield data, student, timesteps, method


@pytest.mark.parametrize(
    ("data", "student", "timesteps", "method", "mean", "std"),
    [
        ("cifar100", "resnet18", 2, "tser", 78.30, 0.08),
        ("cifar100", "resnet18", 4, "tser", 79.69, 0.02),
        ("cifar10", "resnet19", 2, "tser", 96.72, 0.02),
        ("cifar100", "resnet18", 2, "vanilla_kd", 77.15, None),
        ("imagenet", "sew_resnet34", 4, "kdsnn", 67.28, None),
    ],
)
def test_a_few_cells_by_hand(
    data: str, student: str, timesteps: int, method: str, mean: float, std: float | None
) -> None:
    found = published(data, student, timesteps, method)
    assert found is not None
    assert (found.mean, found.std) == (mean, std)


def test_every_name_is_one_that_a_run_can_have() -> None:
    names = {group: {*Configs().options(group), "all"} for group in ("data", "student", "loss")}
    for tree in (paper()["accuracy"], paper()["doubts"]):
        for data, student, _, method in entries(tree):
            assert data in names["data"]
            assert student in names["student"]
            assert method in names["loss"] | WITHOUT_DISTILLATION


def test_every_doubt_belongs_to_a_number_and_is_found_with_it() -> None:
    for data, student, timesteps, method in entries(paper()["accuracy"]):
        assert published(data, student, timesteps, method) is not None
    copied = published("cifar10", "resnet19", 2, "bkdsnn")
    assert copied is not None
    assert "copying error" in copied.doubt
    assert published("cifar10", "resnet18", 2, "tser") == PublishedAccuracy(95.58, 0.08)


def test_what_the_paper_does_not_print_is_not_found() -> None:
    assert published("digits", "resnet_small", 4, "tser") is None
    assert published("cifar100", "resnet18", 6, "tser") is None
    assert published("cifar100", "resnet18", None, "ce") is None
