import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from tser_lightning import losses
from tser_lightning.errors import UsageError
from tser_lightning.losses import TSER, DistillationLoss, VanillaKD

CONF = Path(__file__).parents[2] / "conf" / "loss"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "custom")


@pytest.mark.parametrize("name", NAMES)
def test_a_config_names_the_class_of_its_method_and_only_its_settings(name: str) -> None:
    config = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    assert isinstance(config, dict)
    method = getattr(losses, config.pop("_target_").rpartition(".")[2])
    assert issubclass(method, DistillationLoss)
    assert method is not DistillationLoss
    assert set(config) <= set(inspect.signature(method).parameters)


def test_the_switches_all_off_are_vanilla_kd() -> None:
    student_TBC, teacher_BC, labels_B = torch.randn(4, 3, 5), torch.randn(3, 5), torch.tensor([0, 1, 2])
    off = TSER(separate_ce=False, separate_kl=False, regularise_entropy=False)
    found, expected = (loss(student_TBC, teacher_BC, labels_B) for loss in (off, VanillaKD()))
    assert found.parts.keys() == expected.parts.keys()
    assert torch.equal(found.total, expected.total)


def test_defaults_are_those_of_the_config_files(build: Callable[..., Any]) -> None:
    student_TBC, teacher_BC, labels_B = torch.randn(4, 3, 5), torch.randn(3, 5), torch.tensor([0, 1, 2])
    for name, method in {"tser": TSER, "vanilla_kd": VanillaKD, "tet": losses.TET, "ce": losses.LabelsOnly}.items():
        found, expected = (loss(student_TBC, teacher_BC, labels_B) for loss in (method(), build(name)))
        assert torch.equal(found.total, expected.total)


@pytest.mark.parametrize(
    "wrong",
    [{"regularise_entropy": False, "lam": -9}, {"regularise_entropy": False, "entropy_tau": -1}, {"mean": "probs"}],
)
def test_what_is_wrong_or_does_nothing_is_refused_whatever_the_switches(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=[*wrong][-1]):
        TSER(**wrong)
    TSER(mean="probs", separate_kl=False)
