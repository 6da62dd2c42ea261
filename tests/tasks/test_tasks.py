"""The tasks on real digits, small and short: what they leave behind and what they refuse."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

import tser_lightning as tl
from tser_lightning.cli.main import main
from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import compose_run
from tser_lightning.errors import UsageError
from tser_lightning.tasks.run_task import run_task

SHORT = [
    "trainer.epochs=2",
    "data.batch_size=100",
    "student.widths=[4,8]",
    "student.timesteps=2",
    "teacher.widths=[8,16]",
    "teacher.training.epochs=4",
    "logging.wandb.mode=disabled",
    "machine.accelerator=cpu",
]
CONFIGS = Configs()


def run(runs: Path, *overrides: str, short: bool = True) -> dict[str, Any]:
    words = [*(SHORT if short else SHORT[-2:]), f"machine.runs_dir={runs}", *overrides]
    return run_task(compose_run(words, configs=CONFIGS))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work") / "runs"
    run(folder, "measure=full")
    return folder


def test_a_run_keeps_the_checkpoints_that_the_machine_wants_and_its_name(runs: Path) -> None:
    home = only(runs, "digits-loss_tser-*")
    assert {file.name for file in (home / "checkpoints").iterdir()} >= {"last.ckpt", "best.ckpt"}
    for keep in ("weights", "last"):
        untaught = [word for word in SHORT if not word.startswith("teacher.")]
        words = [*untaught, f"machine.runs_dir={runs.parent / keep}", "teacher=none", "loss=ce"]
        run_task(compose_run([*words, f"machine.keep={keep}"]))
        found = only(runs.parent / keep, "digits-*")
        assert [file.name for file in (found / "checkpoints").iterdir()] == (["last.ckpt"] if keep == "last" else [])
        assert compose_run(words).name == found.name
        assert (found / "student.safetensors").is_file()


def only(runs: Path, pattern: str) -> Path:
    (found,) = runs.glob(pattern)
    return found


def test_a_run_leaves_its_records(runs: Path) -> None:
    home = only(runs, "digits-loss_tser-*")
    result = json.loads((home / "result.json").read_text())
    names = {"test/acc", "test/acc_t1", "test/acc_t2", "test/acc_step1", "test/acc_step2", "test/agreement", "test/ece"}
    names |= {"test/firing_rate", "test/energy_mj", "teacher/acc", "train/seconds", "train/peak_memory_mb", "selection"}
    names |= {"train/seconds_per_step"}
    assert names <= set(result)
    assert result["test/acc"] == result["test/acc_t2"]
    assert (result["experiment"], result["loss"], result["neuron"], result["seed"]) == ("digits", "tser", "lif", 1)
    assert (result["trainer.epochs"], result["student.timesteps"]) == (2, 2)
    assert result["teacher/acc"] > 50
    about = json.loads((home / "run.json").read_text())
    assert about["status"] == "finished"
    assert about["backend"] == "eager"
    assert "trainer.epochs=2" in about["overrides"]
    assert yaml.safe_load((home / "config.yaml").read_text())["loss"]["alpha"] == 0.5
    assert len((home / "metrics.csv").read_text().splitlines()) == 3
    assert "student" in json.loads((home / "student.json").read_text())


def test_the_student_alone_gives_the_measured_accuracy(runs: Path) -> None:
    home = only(runs, "digits-loss_tser-*")
    student = tl.load_student(home / "student.safetensors")
    config = yaml.safe_load((home / "config.yaml").read_text())["data"]
    from tser_lightning.data import Digits

    data = Digits(**{key: value for key, value in config.items() if key != "_target_"})
    (batch,) = data.loader("test")
    with torch.no_grad():
        right = (student(batch.images).mean(0).argmax(1) == batch.labels).float().mean()
    assert 100 * right.item() == pytest.approx(json.loads((home / "result.json").read_text())["test/acc"])
    assert not any("loss" in name or "teacher" in name for name in load_file(home / "student.safetensors"))


def test_a_finished_run_is_not_done_again(runs: Path) -> None:
    home = only(runs, "digits-loss_tser-*")
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    result = run(runs)
    assert result == json.loads((home / "result.json").read_text())
    assert before == {path: path.stat().st_mtime_ns for path in home.rglob("*")}


def test_the_teacher_is_trained_once(runs: Path) -> None:
    weights = only(runs, "teachers/cnn_small-digits-*/teacher.safetensors")
    before = weights.stat().st_mtime_ns
    taught = run(runs, "task=teach")
    assert run(runs, "loss=ce", "trainer.epochs=1")["teacher/acc"] == pytest.approx(taught["teacher/acc"])
    assert weights.stat().st_mtime_ns == before


def test_evaluation_repeats_the_result_and_takes_another_number_of_steps(runs: Path) -> None:
    home = only(runs, "digits-loss_tser-*")
    result = json.loads((home / "result.json").read_text())
    again = run(runs, "task=evaluate", f"run={home}", "experiment=none", short=False)
    assert {name: again[name] for name in again if name.startswith("test/")} == {
        name: result[name] for name in result if name.startswith("test/")
    }
    longer = run(runs, "task=evaluate", f"run={home}", "student.timesteps=3", "experiment=none", short=False)
    assert longer["test/acc_t2"] == result["test/acc_t2"]
    assert "test/acc_t3" in longer
    assert (home / "evaluation_t3.json").is_file()


def test_evaluation_is_in_the_precision_of_the_training(tmp_path: Path) -> None:
    result = run(tmp_path, "trainer.precision=bf16-mixed")
    home = only(tmp_path, "digits-loss_tser-*")
    again = run(tmp_path, "task=evaluate", f"run={home}", "experiment=none", short=False)
    assert {name: again[name] for name in again if name.startswith("test/")} == {
        name: result[name] for name in result if name.startswith("test/")
    }


def _tree(root: Path, classes: str, colours: int = 3) -> Path:
    random = np.random.default_rng(colours)
    for part, number in (("train", 20), ("val", 10)):
        for label, name in enumerate(classes.split()):
            (root / part / name).mkdir(parents=True)
            for index in range(number):
                pixels = random.integers(60 * label, 60 * label + 80, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.bmp")
    return root


def _images(path: Path, *more: str) -> list[str]:
    return [
        *("experiment=none", "data=image_folder", f"data.path={path}", "data.num_classes=3", "data.shape=[3,8,8]"),
        *("student=resnet_small", "teacher=resnet_small", "loss=ce"),
        *("data.batch_size=20", "trainer.epochs=2", "student.widths=[4,8]", "teacher.widths=[8,16]"),
        *(
            "teacher.training.epochs=6",
            "teacher.training.optim.lr=0.02",
            "student.timesteps=2",
            "data.eval_batch_size=16",
            *more,
        ),
    ]


def test_other_test_images_are_measured_without_another_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images, runs = _tree(tmp_path / "images", "ant bee cow"), tmp_path / "records"
    before = run(runs, *_images(images), short=False)
    home = only(runs, "*-loss_ce-*")
    card = json.loads((home / "student.json").read_text())
    assert (card["classes"], card["shape"], card["resize"]) == (["ant", "bee", "cow"], [3, 8, 8], 9)
    weights = (home / "student.safetensors").read_bytes()
    for name in ("ant", "bee", "cow"):
        Image.new("RGB", (8, 8), "blue").save(images / "val" / name / "3.bmp")
    after = run(runs, *_images(images), short=False)
    assert "the test images changed since" in caplog.text
    assert (home / "student.safetensors").read_bytes() == weights
    assert after["test/agreement"] != before["test/agreement"]
    assert after["train/seconds"] == before["train/seconds"]
    caplog.clear()
    assert run(runs, *_images(images), short=False) == after
    assert "changed" not in caplog.text
    again = run(runs, "task=evaluate", f"run={home}", "experiment=none", short=False)
    assert {name: again[name] for name in again if "/" in name} == {
        name: after[name] for name in after if name.startswith(("test/", "teacher/"))
    }
    assert "test_images" not in again
    Image.new("RGB", (8, 8), "blue").save(images / "train" / "ant" / "3.bmp")
    with pytest.raises(UsageError, match=r"the training images changed since .* was finished"):
        run(runs, *_images(images), short=False)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("teacher.weights", "the file of the teacher's weights changed since"),
        ("student.weights", "the weights that the student starts from changed since"),
    ],
)
def test_a_file_of_weights_that_was_exchanged_is_noticed(setting: str, told: str, runs: Path, tmp_path: Path) -> None:
    (teacher,) = (runs / "teachers").rglob("teacher.safetensors")
    file = tmp_path / "exchanged.safetensors"
    shutil.copy(only(runs, "digits-loss_tser-*") / "student.safetensors" if "student" in setting else teacher, file)
    files = {"teacher.weights": teacher, setting: file}
    words = ["debug=step", "loss=ce", *(f"{name}={place}" for name, place in files.items())]
    first = run(tmp_path / "records", *words)
    assert run(tmp_path / "records", *words) == first
    save_file({name: value * 2 for name, value in load_file(file).items()}, file)
    with pytest.raises(UsageError, match=told):
        run(tmp_path / "records", *words)


def test_an_evaluation_says_which_images_and_classes_are_not_those_of_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = tmp_path / "records"
    run(runs, *_images(_tree(tmp_path / "images", "ant bee cow")), short=False)
    home = only(runs, "*-loss_ce-*")
    evaluation = ["task=evaluate", f"run={home}", "experiment=none"]
    teachers = sorted((runs / "teachers").iterdir())
    others = _tree(tmp_path / "others", "ant bee cow", 4)
    other = run(runs, *evaluation, f"data.path={others}", short=False)
    assert "these are not the test images" in caplog.text
    assert other["test_images"] == "not those of the run"
    assert "test/agreement" in other
    assert sorted((runs / "teachers").iterdir()) == teachers
    with pytest.raises(UsageError, match="class 2 is 'doe' in image_folder, and was 'cow' in"):
        run(runs, *evaluation, f"data.path={_tree(tmp_path / 'renamed', 'ant bee doe')}", short=False)
    shutil.rmtree(runs / "teachers")
    alone = run(runs, *evaluation, short=False)
    assert "what compares with it is left out" in caplog.text
    assert "test/acc" in alone
    assert "test/agreement" not in alone
    assert not (runs / "teachers").exists()


def test_numbers_that_cannot_be_written_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "loss=ce", "trainer.epochs=1")
    home = only(tmp_path, "digits-loss_ce-*")
    (home / "evaluation_t2.json").mkdir()
    (home / "evaluation_t2.json" / "x").touch()
    again = run(tmp_path, "task=evaluate", f"run={home}", "experiment=none", short=False)
    assert f'"test/ece": {again["test/ece"]}' in capsys.readouterr().out


def test_all_measures_are_kept(runs: Path) -> None:
    home = only(runs, "digits-loss_tser-*")
    measures = json.loads((home / "measures.json").read_text())
    assert set(measures) == {
        "firing_by_layer",
        "energy_by_layer",
        "cka",
        "gradient_cosine",
        "full_range",
        "early_exit",
    }
    assert len(measures["full_range"]) == 4
    result = json.loads((home / "result.json").read_text())
    assert measures["full_range"]["2"] == pytest.approx(result["test/acc_t2"])
    layers = measures["energy_by_layer"].values()
    assert sum(layer["energy_mj"] for layer in layers) == pytest.approx(result["test/energy_mj"])
    features = load_file(home / "features.safetensors")
    assert features["student"].shape == (360, 8 * 2 * 2)
    assert features["teacher"].shape == (360, 16 * 2 * 2)


@pytest.mark.slow
def test_the_report_has_every_run(runs: Path, tmp_path: Path) -> None:
    written = run(runs, "task=report", f"runs='{runs}/digits-*'", f"report.dir={tmp_path}", short=False)
    page = Path(written["report"]).read_text()
    assert "tser" in page
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 1 + len(list(runs.glob("digits-*")))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["teacher.training.optim.lr=1e-12"], "near chance"),
        (["machine.devices=[7]", "machine.accelerator=gpu"], "does not offer"),
        (["data.validation=0.0001"], "val"),
    ],
)
def test_a_mistake_that_shows_late_still_leaves_no_run_directory(
    tmp_path: Path, overrides: list[str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        run(tmp_path, *overrides)
    assert not list(tmp_path.glob("digits-*"))


def test_a_loss_that_needs_a_teacher_has_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="compares with a teacher"):
        run(tmp_path, "teacher=none", short=False)
    assert not list(tmp_path.glob("digits-*"))


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    teacher = tl.build_teacher("resnet_small", num_classes=7, in_channels=1, weights=None, widths=[8, 16])
    save_file(teacher.net.state_dict(), tmp_path / "seven.safetensors")
    with pytest.raises(UsageError, match="has 7 classes, data=digits has 10"):
        run(tmp_path / "records", f"teacher.weights={tmp_path / 'seven.safetensors'}")


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_what_an_architecture_refuses_is_told_by_its_settings(
    role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data=synthetic", f"{role}=spikformer_4_384", f"{role}.dim=100", "debug=step"]) == 2
    what, _, fix = capsys.readouterr().err.strip().splitlines()[-3:]
    assert what.startswith(f"tser: {role}.dim=100 cannot be divided by 8 and by {role}.heads=")
    assert fix == f"  try: {role}.dim=384 {role}.heads=12"
