"""One file of conf/architecture is the options of student and teacher, and of all sizes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import Run, compose_run
from tser_lightning.config.usage_errors import UsageErrors
from tser_lightning.sweep.combinations import jobs_of

Compose = Callable[..., Run]


def test_a_size_is_a_setting_of_the_student_and_the_option_of_that_size_the_same_run(compose: Compose) -> None:
    named, sized = compose("student=spikformer_2_384"), compose("student=spikformer student.size=2_384")
    assert sized.config == named.config
    assert sized.name == named.name
    assert sized.choices["student"] == "spikformer_2_384"
    plain = {"depth": 2, "dim": 384, "heads": 12, "patch_size": 4, "timesteps": 6, "weights": None}
    assert named.config["student"] == {"_target_": "tser_lightning.models.spikformer", **plain}


def test_a_family_without_a_size_is_its_first(compose: Compose) -> None:
    assert compose("student=spikformer").name == compose("student=spikformer_4_384").name
    assert compose("student=resnet teacher=resnet teacher.size=34").choices["teacher"] == "resnet34"


def test_sizes_can_be_swept(configs: Configs) -> None:
    jobs = jobs_of(["student=sdt", "student.size=2_512,8_384"], configs)
    runs = [compose_run(job, check_data=False, configs=configs) for job in jobs]
    assert [run.choices["student"] for run in runs] == ["sdt_2_512", "sdt_8_384"]


def test_a_size_that_there_is_not_and_a_size_of_what_has_none_are_refused(compose: Compose) -> None:
    with pytest.raises(UsageErrors, match="no size of spikformer") as refused:
        compose("student=spikformer student.size=3_100")
    assert "4_384, 2_384" in str(refused.value)
    with pytest.raises(UsageErrors, match=r"student\.size is not a setting"):
        compose("student=cnn_small student.size=3")


def test_both_roles_have_what_the_file_says_and_each_what_is_its_own(compose: Compose) -> None:
    config = compose("student=spikingformer_cml_6_512 teacher=spikingformer_cml_6_512").config
    student, teacher = config["student"], config["teacher"]
    shared = {"_target_", "depth", "dim", "heads", "patch_size", "cml"}
    assert student.keys() == shared | {"timesteps", "weights"}
    assert teacher.keys() == shared | {"weights", "seed", "training"}
    assert {key: student[key] for key in shared} == {key: teacher[key] for key in shared}
    assert (student["cml"], student["heads"], student["patch_size"]) == (True, 8, 16)
    assert teacher["training"]["schedule"]["final_lr"] == 1e-5


def test_a_role_that_a_file_does_not_name_is_not_offered(configs: Configs) -> None:
    assert "resnet50" in configs.options("teacher")
    assert "resnet50" not in configs.options("student")
    assert "architecture" not in configs.groups()


def test_a_folder_of_ones_own_takes_an_architecture_s_place(folder: Path) -> None:
    (folder / "own" / "student").mkdir(parents=True)
    (folder / "own" / "student" / "resnet18.yaml").write_text("_target_: my.net\ntimesteps: 3\n")
    configs, own = Configs("own"), {"_target_": "my.net", "timesteps": 3, "weights": None}
    assert configs.compose(["experiment=none", "student=resnet18"]).config.student == own
    assert configs.text("student", "resnet18").startswith("_target_: my.net")


def test_the_text_of_an_option_is_that_of_its_role(configs: Configs) -> None:
    for role, other in (("student", "teacher"), ("teacher", "student")):
        text = yaml.safe_load(configs.text(role, "resnet_small"))
        assert text.keys() >= {"_target_", "widths"}
        assert not text.keys() & {role, other}
    assert "timesteps" in yaml.safe_load(configs.text("student", "spikingformer_cml_4_256"))


def test_a_data_set_chooses_its_augmentation_and_a_command_another(compose: Compose, configs: Configs) -> None:
    data = "data=fashion_mnist"
    own, other = (compose_run([data, *more], check_data=False, configs=configs) for more in ([], ["augment=cifar"]))
    assert (own.config["data"]["augment"]["crop"], other.config["data"]["augment"]["crop"]) == (2, 4)
    assert "augment" not in own.name
    assert "augment_cifar" in other.name
    with pytest.raises(UsageErrors) as refused:
        compose("data.augment=none")
    assert "try: augment=none" in str(refused.value)


def test_every_augmentation_names_known_settings_alone(configs: Configs) -> None:
    known = configs.compose(["augment=none"]).config.data
    for option in configs.options("augment"):
        data = configs.compose([f"augment={option}", "data=synthetic", "experiment=none"]).config.data
        assert data.augment.keys() == known.augment.keys()
        assert data.mixup.keys() == known.mixup.keys()
