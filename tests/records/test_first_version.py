from typing import Any

import pytest

from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import compose_run
from tser_lightning.records.first_version import loss_as_terms, terms_alone

# What `experiment=digits` was in the first version, and what runs of it were named by.
DIGITS = (
    "experiment=none data=digits teacher=resnet_small student=resnet_small "
    "student.timesteps=6 student.widths=[8,16,32] trainer.epochs=12"
)
HASHES = {
    "loss=ce": "c1ce17fc",
    "loss=ce loss.mean=probs": "c3b0838a",
    "loss=tet": "1f22eac9",
    "loss=tet loss.lam=0.01": "8a5ffd53",
    "loss=vanilla_kd": "3066ce03",
    "loss=vanilla_kd loss.mean=probs": "ae466e4c",
    "loss=vanilla_kd loss.alpha=0": "9dc7c6f6",
    "loss=ts_ce": "d244d323",
    "loss=ts_ce loss.tau=4": "737bec83",
    "loss=ts_kl": "0fd4c0c3",
    "loss=ts_kl loss.tau_squared=false": "b89bf472",
    "loss=ts": "5529fc28",
    "loss=ts loss.alpha=1": "18b073ab",
    "loss=vanilla_kd_er": "30224432",
    "loss=vanilla_kd_er loss.lam=0": "76f3e04e",
    "loss=tser": "bff6bf49",
    "loss=tser loss.lam=0.1": "a231c9ba",
    "loss=tser loss.alpha=0.3": "8e8c8690",
    "loss=tser loss.entropy_tau=2": "c322feef",
    "loss=tser loss.label_smoothing=0.1": "b40f19e2",
    "loss=kdsnn": "84529765",
    "loss=kdsnn loss.mode=feature": "dd8d2741",
    "loss=lasnn": "c1412630",
    "loss=lasnn loss.map=mse": "3694de2e",
    "loss=bkdsnn": "57d28de6",
    "loss=bkdsnn loss.beta=2e-3": "5b8868a7",
    "loss=bkdsnn loss.clip=true": "2ff8593a",
}


@pytest.mark.parametrize("words", HASHES)
def test_runs_of_the_first_version_keep_their_names(words: str, configs: Configs) -> None:
    run = compose_run([*DIGITS.split(), *words.split()], configs=configs)
    assert run.name.endswith(f"-{HASHES[words]}")


def test_what_an_old_run_says_of_its_loss_is_buildable() -> None:
    term = {"_target_": "tser_lightning.losses.CrossEntropy", "weight": 0.5}
    old: dict[str, Any] = {"_target_": "tser_lightning.losses.DistillationLoss", "alpha": 0.5, "terms": {"ce": term}}
    assert terms_alone(old) == {"_target_": old["_target_"], "terms": {"ce": term}}
    new = {"_target_": "tser_lightning.losses.KDSNN", "alpha": 0.5}
    assert terms_alone(new) == loss_as_terms(new) == new


def test_a_loss_written_by_hand_with_defaults_left_out_is_taken_as_it_is() -> None:
    own = {"_target_": "tser_lightning.losses.TSER", "alpha": 0.5}
    assert loss_as_terms(own) == own
