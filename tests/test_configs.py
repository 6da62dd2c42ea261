"""Every file in conf/ and experiments/ composes and runs one step on tiny data; new files are found by themselves."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from tser_lightning.api import build_student
from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import Run, compose_run
from tser_lightning.data import write_prepared
from tser_lightning.data.checks import frames_path
from tser_lightning.errors import UsageError
from tser_lightning.measure import OperationCounter
from tser_lightning.registry import build
from tser_lightning.tasks.build_training import build_machine, build_recipe
from tser_lightning.tasks.run_task import run_task
from tser_lightning.tasks.teachers import obtain_teacher
from tser_lightning.training import fit, save_network

ROOT = Path(__file__).parent.parent
TINY = [
    "data=synthetic",
    "data.train_images=8",
    "data.test_images=4",
    "data.batch_size=4",
    "data.validation=0.5",
    "data.shape=[3,32,32]",
    "student.timesteps=2",
    "teacher=resnet_small",
    "teacher.weights=null",
    "debug=step",
    "logging.wandb.mode=disabled",
    "machine.accelerator=cpu",
]
NEEDS_SETTINGS = {"custom", "none"}
SMALL = ("resnet_small", "vgg_small")
CONFIGS = Configs()
SMALL_TRANSFORMER = ["student.depth=1", "student.dim=32", "student.heads=4"]


def options(group: str) -> list[str]:
    return [name for name in CONFIGS.options(group) if name not in NEEDS_SETTINGS]


def slow(name: Any, *, unless: bool = False) -> Any:
    return pytest.param(name, marks=() if unless else pytest.mark.slow)


def compose(*overrides: str, runs_dir: Path) -> Run:
    torch.set_num_threads(1)
    keys = {override.partition("=")[0] for override in overrides}
    settings = [setting for setting in TINY if setting.partition("=")[0] not in keys]
    return compose_run([*settings, f"machine.runs_dir={runs_dir}", *overrides], configs=CONFIGS)


def run(*overrides: str, runs_dir: Path) -> dict[str, Any]:
    return run_task(compose(*overrides, runs_dir=runs_dir))


def check(result: dict[str, Any]) -> None:
    assert 0 <= result["test/acc"] <= 100
    assert result["debug"] == "step"
    assert result["data"] == "synthetic"


@pytest.mark.parametrize("loss", options("loss"))
def test_loss(loss: str, tmp_path: Path) -> None:
    check(run(f"loss={loss}", runs_dir=tmp_path))


@pytest.mark.parametrize(
    "loss", [slow(name, unless=name in ("tser", "dkd", "tdd", "im_loss")) for name in options("loss")]
)
def test_all_measures_of_a_student_of_any_loss(loss: str, tmp_path: Path) -> None:
    check(run(f"loss={loss}", "measure=full", runs_dir=tmp_path))
    (measures,) = tmp_path.glob("*/measures.json")
    of_logits = loss in ("ce", "dkd", "dist", "logit_standardization", "tser", "vanilla_kd")
    assert "gradient_cosine" in json.loads(measures.read_text()) or not of_logits


@pytest.mark.parametrize("neuron", options("neuron"))
def test_neuron(neuron: str, tmp_path: Path) -> None:
    averages = ["student=resnet_small"] if neuron == "qcfs" else []  # what a conversion asks for
    check(run(f"neuron={neuron}", *averages, runs_dir=tmp_path))


@pytest.mark.parametrize("norm", options("norm"))
def test_norm(norm: str, tmp_path: Path) -> None:
    check(run(f"norm={norm}", runs_dir=tmp_path))


@pytest.mark.parametrize("student", [slow(name, unless=name in SMALL) for name in options("student")])
def test_student(student: str, tmp_path: Path) -> None:
    check(run(f"student={student}", runs_dir=tmp_path))


@pytest.mark.parametrize("teacher", [slow(name, unless=name in SMALL) for name in options("teacher")])
def test_teacher(teacher: str, tmp_path: Path) -> None:
    check(run(f"teacher={teacher}", runs_dir=tmp_path))


@pytest.mark.parametrize("group", ["optim", "schedule", "trainer"])
def test_small_groups(group: str, tmp_path: Path) -> None:
    for option in options(group):
        check(run(f"{group}={option}", runs_dir=tmp_path / option))


# Named options of a row of the paper's tables, beside those that are files of their own.
VARIANTS = [
    ["loss=vanilla_kd", "loss.mean=probs"],
    ["loss=kdsnn", "loss.mode=response"],
    ["loss=kdsnn", "loss.mode=feature"],
    ["loss=lasnn", "loss.map=mse"],
    ["loss=ce", "neuron=glif", "norm=tdbn"],
    ["loss=ce", "neuron=lsg", "norm=tdbn"],
    ["loss=tet", "teacher=none"],
    ["student.attention=pfa"],
    ["student=sew_resnet18", "neuron=if", "student.connect=and"],
    ["student=sew_resnet18", "neuron=if", "student.connect=iand"],
]


@pytest.mark.parametrize("overrides", [slow(row, unless="sew" not in row[0]) for row in VARIANTS], ids=" ".join)
def test_variant(overrides: list[str], tmp_path: Path) -> None:
    check(run(*overrides, runs_dir=tmp_path))


CNNS = [name for name in options("student") if "resnet" in name or "vgg" in name]
WITHOUT_TEACHER = [
    "neuron=lsg",
    "neuron=glif",
    "neuron=mpbn",
    "neuron=im_lif",
    "norm=tdbn",
    "norm=tebn",
    "student.attention=pfa",
    "loss=tet",
    "loss=ce",
    "loss=im_loss",
    "loss=strong_to_weak",
]


@pytest.mark.slow
@pytest.mark.parametrize("method", WITHOUT_TEACHER)
@pytest.mark.parametrize("student", CNNS)
def test_method_without_a_teacher_on_every_cnn(student: str, method: str, tmp_path: Path) -> None:
    loss = method if method.startswith("loss=") else "loss=ce"
    check(run(f"student={student}", "teacher=none", *dict.fromkeys((loss, method)), runs_dir=tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["group", "tet", "mpbn", "glif"])
def test_every_resnet19(variant: str, tmp_path: Path) -> None:
    check(run("student=resnet19", f"student.variant={variant}", runs_dir=tmp_path))


FAMILIES = {
    "resnet_small": ["student=resnet_small"],
    "vgg_small": ["student=vgg_small"],
    "sew": ["student=sew_resnet18", "neuron=if"],
    "preact": ["student=preact_resnet34"],
    "spikformer": ["student=spikformer_4_256", *SMALL_TRANSFORMER],
    "spikingformer": ["student=spikingformer_cml_4_256", *SMALL_TRANSFORMER],
    "sdt": ["student=sdt_2_512", *SMALL_TRANSFORMER],
}


def digest(module: nn.Module) -> str:
    state = hashlib.sha256()
    for name, value in module.state_dict().items():
        state.update(name.encode() + value.numpy().tobytes())
    return state.hexdigest()


def train_a_step(config: Mapping[str, Any], folder: Path) -> None:
    """One step; the teacher is as it was, the student is not, and its file holds the student alone."""
    data = build.build_data(config)
    classes = {"num_classes": data.num_classes, "in_channels": data.shape[0]}
    student, teacher = build.build_student(config, **classes), obtain_teacher(config, "teacher", data)
    assert teacher is not None
    before = digest(teacher), digest(student)
    recipe = build_recipe(config["trainer"], config["optim"], config["schedule"], config["debug"]["steps"])
    machine = build_machine(config)
    fit(student, build.build_loss(config), teacher, data, folder, recipe=recipe, machine=machine, selection="last")
    assert digest(teacher) == before[0]
    assert digest(student) != before[1]
    save_network(student, folder / "student.safetensors", {})
    assert set(load_file(folder / "student.safetensors")) == set(build.build_student(config, **classes).state_dict())


@pytest.mark.parametrize("loss", options("loss"))
@pytest.mark.parametrize("family", [slow(name) for name in FAMILIES])
def test_loss_with_family(family: str, loss: str, tmp_path: Path) -> None:
    train_a_step(compose(*FAMILIES[family], f"loss={loss}", runs_dir=tmp_path).config, tmp_path)


@pytest.mark.parametrize(
    ("family", "loss"), [("vgg_small", "bkdsnn"), ("spikingformer", "lasnn"), ("spikformer", "ckdsnn"), ("sew", "sakd")]
)
def test_features_of_unlike_networks(family: str, loss: str, tmp_path: Path) -> None:
    train_a_step(compose(*FAMILIES[family], f"loss={loss}", runs_dir=tmp_path).config, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["kdsnn", "lasnn", "bkdsnn", "tser", "sakd"])
@pytest.mark.parametrize("teacher", ["vit_s_16", "spikformer_2_384", "vgg16", "sew_resnet18"])
@pytest.mark.parametrize("family", ["resnet_small", "spikingformer"])
def test_every_kind_of_teacher(family: str, teacher: str, loss: str, tmp_path: Path) -> None:
    overrides = [*FAMILIES[family], f"teacher={teacher}", f"loss={loss}"]
    train_a_step(compose(*overrides, runs_dir=tmp_path).config, tmp_path)


EXPERIMENTS = [name for name in options("experiment") if name != "paper"]
REPRESENTATIVE = {  # of those that differ in data, student or T alone; with a student that takes no second
    "digits": [],
    "fashion_mnist": [],
    "cifar10_small": [],
    "cifar100_r18_t2": ["student=resnet_small"],
    "cifar10_dvs_r19_t10": ["student=resnet_small"],
    "cifar10_spikingformer_4_256": SMALL_TRANSFORMER,
}


@pytest.mark.parametrize("experiment", REPRESENTATIVE)
def test_experiment(experiment: str, tmp_path: Path) -> None:
    result = run(f"experiment={experiment}", *REPRESENTATIVE[experiment], runs_dir=tmp_path)
    check(result)
    assert result["experiment"] == experiment


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_with_its_own_student_and_teacher(experiment: str, tmp_path: Path) -> None:
    settings = yaml.safe_load((ROOT / "experiments" / f"{experiment}.yaml").read_text())
    chosen = {key.removeprefix("override /"): name for line in settings["defaults"] for key, name in line.items()}
    result = run(f"experiment={experiment}", f"teacher={chosen['teacher']}", runs_dir=tmp_path)
    check(result)
    assert {key: result[key] for key in ("student", "teacher")} == {key: chosen[key] for key in ("student", "teacher")}


def test_a_transformers_recipe_trains_its_teacher_on_mixed_images_too(tmp_path: Path) -> None:
    overrides = [*SMALL_TRANSFORMER, "teacher.weights=train", "data.num_classes=4"]
    result = run("experiment=cifar10_spikingformer_4_256", *overrides, runs_dir=tmp_path)
    check(result)
    assert list(tmp_path.glob("teachers/*/teacher.safetensors"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_says_what_it_is(experiment: str) -> None:
    text = (ROOT / "experiments" / f"{experiment}.yaml").read_text()
    labels = re.findall(r"^# ([A-Z][a-z]+): ", text, re.MULTILINE)
    assert [label for label in labels if label not in ("Published", "Methods", "Guesses", "Checked", "Ours")] == [
        "Reproduces",
        "Run",
        "On",
        "Measured",
    ]
    assert f"experiment={experiment}" in text
    steps = re.search(r"_t(\d+)$", experiment)
    assert steps is None or yaml.safe_load(text)["student"]["timesteps"] == int(steps[1])


def test_every_cell_family_of_the_paper_has_an_experiment() -> None:
    short = {"resnet18": "r18", "resnet19": "r19", "vgg16": "v16", "vgg11": "v11"}
    accuracy = yaml.safe_load((ROOT / "experiments" / "paper.yaml").read_text())["accuracy"]
    wanted = set()
    for data, students in accuracy.items():
        for student, cells in students.items():
            steps = [step for step, methods in cells.items() if "tser" in methods]
            name = short.get(student) or student.replace("_cml", "").replace("sew_resnet", "sew")
            wanted |= {f"{data}_{name}_t{step}" if student in short else f"{data}_{name}" for step in steps}
    assert len(wanted) == 22
    assert wanted <= set(EXPERIMENTS)


@pytest.mark.parametrize("student", ["resnet18", "vgg16"])
def test_operations_are_those_of_table_4_as_printed(student: str) -> None:
    printed = yaml.safe_load((ROOT / "experiments" / "paper.yaml").read_text())["table4"][student]
    torch.manual_seed(0)
    network = build_student(student, num_classes=100, timesteps=4).eval()
    with OperationCounter(network) as counter, torch.no_grad():
        network(torch.randn(1, 3, 32, 32))
    counted = counter.compute().paper
    assert f"{counted.ops / 1e9:.2f}" == f"{printed['ops'] / 1e9:.2f}"
    assert f"{counted.mac / 1e6:.1f}" == f"{printed['macs'] / 1e6:.1f}"
    energies = [(0.9 * acs + 4.6 * printed["macs"]) * 1e-9 for acs in printed["acs"]]
    assert sorted(energies) == pytest.approx(sorted(printed["energy_mj"]), abs=0.0075)  # its rows look shuffled


@pytest.mark.slow
def test_a_zoo_that_cannot_give_weights_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="resnet35"):
        run("teacher.weights=torchvision:resnet35", runs_dir=tmp_path)


@pytest.mark.slow
def test_a_trial_downloads_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("timm")
    small = ["teacher.model=vit_tiny_patch16_224", "teacher.training.start=timm:vit_tiny_patch16_224"]
    check(run("teacher=vit_s_16", *small, "teacher.weights=train", runs_dir=tmp_path))
    assert "not from timm:vit_tiny_patch16_224" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["cifar10_dvs_r19_t10", "dvs_gesture_r18_t16"])
def test_frames_of_events_train_a_step_by_path(experiment: str, tmp_path: Path) -> None:
    config = compose_run([f"experiment={experiment}"], check_data=False).config["data"]
    channels, height, width = config["shape"]
    arrays = {}
    for part, images in (("train", 4 * config["num_classes"]), ("test", config["num_classes"])):
        size = (images, height, width, config["timesteps"] * channels)
        arrays[f"{part}_images"] = torch.randint(4, size, dtype=torch.uint8)
        arrays[f"{part}_labels"] = torch.arange(images) % config["num_classes"]
    write_prepared(
        frames_path(tmp_path, config["recordings"], config["split"], config["timesteps"], config["shape"]), arrays
    )
    settings = [setting for setting in TINY if not setting.startswith(("data", "student"))]
    small = ["student=resnet_small", "data.batch_size=2", "data.eval_batch_size=2"]
    places = [f"data.root={tmp_path}", f"data.path={tmp_path}", f"machine.runs_dir={tmp_path}"]
    result = run_task(compose_run([*settings, f"experiment={experiment}", *small, *places]))
    assert f"test/acc_t{config['timesteps']}" in result
    assert result["data"] == config["recordings"]
