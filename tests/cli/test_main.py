import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tser_lightning.cli.main import guarded, main
from tser_lightning.errors import RunError, UsageError

Told = Callable[..., list[tuple[str, str, str]]]

LOOK = """
import sys
from tser_lightning.cli.main import main
codes = [main(command.split()) for command in sys.argv[1:]]
heavy = {"torch", "lightning", "torchvision", "pytorch_lightning", "wandb", "sklearn"} & set(sys.modules)
print("codes", codes, "heavy", sorted(heavy), file=sys.stderr)
"""


def test_help_and_mistakes_import_nothing_heavy(folder: Path) -> None:
    commands = {
        "--help": 0,
        "--version": 0,
        "loss=ce --cfg job": 0,
        "--info searchpath": 0,
        "loss.lamda=1": 2,
        "loss=tserr": 2,
        "data=cifar10": 2,
        "data.num_classes=100": 2,
        "teacher.weights=nowhere.pt": 2,
        "task=evaluate run=runs/nowhere": 2,
        "-m seed=1,x": 2,
    }
    ended = subprocess.run([sys.executable, "-c", LOOK, *commands], capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines()[-1] == f"codes {list(commands.values())} heavy []"
    assert not list(folder.iterdir())


TRAINED = """
import sys
from tser_lightning.cli.main import main
code = main(["debug=step", "loss=ce", "teacher=none", "logging.wandb.mode=disabled", "machine.runs_dir=records"])
unused = {"wandb", "timm", "onnx", "nir", "pandas", "spikingjelly", "snntorch", "IPython", "optuna"} & set(sys.modules)
print(code, sorted(unused), file=sys.stderr)
"""


@pytest.mark.slow
def test_a_training_imports_nothing_that_it_does_not_use(folder: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", TRAINED], capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines()[-1] == "0 []"


LOGGED = """
import sys
from tser_lightning.cli.main import main
sys.modules["tser_lightning.tasks.run_parts"] = None  # what imports torch and Lightning: an ImportError
main(["debug=step"])
print("wandb.apis.public" in sys.modules, "torch" in sys.modules, file=sys.stderr)
"""


def test_what_starts_wandb_is_imported_before_torch(folder: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", LOGGED], capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines()[-1] == "True False"


def test_a_wrong_command_of_the_program_itself(folder: Path) -> None:
    words = [sys.executable, "-m", "tser_lightning", "loss.lamda=1"]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.splitlines() == [
        "tser: loss.lamda is not a setting",
        "  why: loss=tser has alpha, entropy_tau, label_smoothing, lam, mean, regularise_entropy, separate_ce, "
        "separate_kl, tau, tau_squared",
        "  try: loss.lam=1",
    ]
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("command", "what", "fix"),
    [
        # names
        ("+loss.lamda=1", "loss.lamda is not a setting", "loss.lam=1"),
        ("++loss.lamda=1", "loss.lamda is not a setting", "loss.lam=1"),
        ("loss=tserr", "loss=tserr: there is no loss of that name", "loss=tser"),
        ("losss=tser", "losss is not a setting", "loss=tser"),
        ("model=resnet18", "model is not a setting", "student=resnet18"),
        ("student=lif", "student=lif: there is no student of that name", "neuron=lif"),
        ("teacher=null", "teacher=null: there is no teacher of that name", "teacher=none"),
        ("loss=vanilla_kd loss.lam=0.1", "loss.lam is not a setting", "loss=vanilla_kd_er loss.lam=0.1"),
        ("lr=0.2", "lr is not a setting", "optim.lr=0.2"),
        ("temperature=4", "temperature is not a setting", "loss.tau=4"),
        ("run=runs/x", "run is not a setting", "task=evaluate run=runs/x"),
        ("seed.x=1", "seed.x is not a setting", "seed=1"),
        ("task=train", "task=train: there is no task of that name", "task=distill"),
        ("experiment=digit", "experiment=digit: there is no experiment of that name", "experiment=digits"),
        ("hydra.foo=1", "hydra.foo is not a setting of Hydra", "--cfg hydra shows what is"),
        ("+mine=1", "mine is not a setting", "machine=auto"),
        (
            "loss=review_kd",
            "loss=review_kd: there is no loss of that name",
            "loss=custom loss._target_=my_module.MyClass",
        ),
        ("hydra.run.dir=out", "hydra.run.dir does nothing here", "machine.runs_dir=out"),
        ("student=off", "student=off: there is no student of that name", "student=custom"),
        ("~loss.lam", "~loss.lam takes a setting away", "loss.lam=0.01"),
        ("~teacher", "~teacher takes a setting away", "teacher=none"),
        ("~logging", "~logging takes a setting away", "logging.wandb.mode=disabled"),
        ("~logging.wandb", "~logging.wandb takes a setting away", "logging.wandb.mode=disabled"),
        ("logging.wandb=false", "logging.wandb is not a single value", "logging.wandb.mode=disabled"),
        ("logging.wandb=Offline", "logging.wandb is not a single value", "logging.wandb.mode=offline"),
        ("logging.wandb.mode=off", "is not one of auto, online, offline, disabled", "logging.wandb.mode=disabled"),
        ("wandb=false", "wandb is not a setting", "logging.wandb.mode=disabled"),
        ("student.attention=none", "student.attention=none is not one of", "student.attention=null"),
        ("optim@teacher.optim=adamw", "no part of a run reads this", "optim@teacher.training.optim=NAME"),
        ("teacher.training.optim=adam", "is not a single value", "optim@teacher.training.optim=adamw"),
        # types
        ("seed=one", "seed=one is not a whole number from 0 to 4294967295", "seed=1"),
        ("seed=", "seed='' is not a whole number", "seed=1"),
        ("force=yes", "force=yes is not true or false", "force=true"),
        ("loss.alpha=null", "loss.alpha=null is not a number from 0 to 1", "loss.alpha=0.5"),
        ("trainer.epochs=100.0", "trainer.epochs=100.0 is not a whole number", "trainer.epochs=100"),
        ("student.widths=16", "student.widths=16 is not a list", "student.widths=[16]"),
        ("data.augment=null", "data.augment is not a single value", "data.augment.crop=0"),
        ("+callbacks.mine=1", "callbacks.mine=1 is no callback", "+callbacks.mine._target_=my_module.MyCallback"),
        # ranges
        ("loss.alpha=1.5", "loss.alpha=1.5 is not a number from 0 to 1", "loss.alpha=0.5"),
        ("loss.tau=0", "loss.tau=0 is not a number above 0", "loss.tau=5.0"),
        ("student.timesteps=0", "student.timesteps=0 is not a whole number from 1", "student.timesteps=4"),
        ("optim.lr=1e400", "optim.lr=inf is not a number above 0", "optim.lr=0.0005"),
        ("optim.lr=nan", "optim.lr=nan is not a number above 0", "optim.lr=0.0005"),
        ("data.validation=1", "data.validation=1 is not a number from 0 below 1", "data.validation=0.1"),
        ("selection=test", "selection=test is not one of val, last, paper", "selection=val"),
        ("loss.lam=[0.1,0.2]", "is not a number from 0", "-m loss.lam=0.1,0.2"),
        ("trainer.precision=bf16", "trainer.precision=bf16 is not one of", "trainer.precision=bf16-mixed"),
        ("neuron.surrogate=rectangle", "neuron.surrogate=rectangle is not one of", "neuron.surrogate=rectangular"),
        ("neuron.reset=medium", "neuron.reset=medium is not one of hard, soft", "neuron.reset=hard"),
        # grammar
        ("seed=1,2", "seed=1,2 gives seed more than one value", "-m seed=1,2"),
        ("data.shape=3,32,32", "data.shape=3,32,32 is not a list", "data.shape=[3,32,32]"),
        ("seed=1, 2", "'seed=1, 2' is torn apart by spaces", "-m seed=1,2"),
        ("loss = tser", "'loss = tser' is torn apart by spaces", "loss=tser"),
        ("seed=1..3", "'seed=1..3' is no range", "-m 'seed=range(1,4)'"),
        ("task=report runs=a,b", "runs=a,b is not a list", "'runs=[a,b]'"),
        ("tser", "'tser' is neither group=option nor setting=value", "loss=tser"),
        ("seed", "'seed' is neither group=option nor setting=value", "seed=1"),
        ("loss=my_losses.DKD", "there is no loss of that name", "loss=custom loss._target_=my_losses.DKD"),
        ("=1", "'=1' names no setting", "loss=tser, or seed=1"),
        ("seed=[1", "'seed=[1' cannot be read", "seed=1"),
        ("optim.lr=\u22120.1", "cannot be read", "optim.lr=-0.1"),
        ("loss..alpha=1", "'loss..alpha=1' cannot be read", "loss.alpha=1"),
        ("loss.alpha=${foo}", "loss.alpha cannot be resolved", "loss.alpha=0.5"),
        ("loss.alpha=${loss.alpha}", "loss.alpha cannot be resolved", "loss.alpha=0.5"),
        # the world
        ("data=cifar10", "there is no prepared data set data/cifar10.safetensors", "task=prepare data=cifar10"),
        ("data=cifar10 data.num_classes=100", "data=cifar10 has 10 classes", "data.num_classes=10"),
        ("data.shape=[3,8,8]", "data.shape=[3, 8, 8]", "data.shape=[1,8,8]"),
        ("data=imagenet", "data.path is not set", "data.path=/path/to/the/images"),
        ("task=evaluate", "run is not set", "run=runs/NAME"),
        ("task=evaluate run=runs/x", "run=runs/x: there is no such folder", "run=runs/NAME"),
        ("teacher.weights=nofile.pt", "teacher.weights=nofile.pt: there is no such file", "teacher.weights=train"),
        ("teacher.weights=torchvison:resnet34", "names no source of weights", "torchvision:resnet34"),
        ("machine.runs_dir=/dev/null/x", "nothing can be written there", "machine.runs_dir=FOLDER"),
        ("loss=custom", "loss._target_ is not set", "loss._target_=my_module.MyLoss"),
        ("loss._target_=nowhere.Loss", "loss._target_=nowhere.Loss cannot be imported", "my_module.MyClass"),
    ],
)
def test_a_mistake_is_answered_in_three_lines(refused: Told, command: str, what: str, fix: str) -> None:
    [(said, why, typed)] = refused(*command.split())
    assert what in said
    assert why
    assert fix in typed


def test_spaces_inside_quotes_are_taken_out_of_the_advice(refused: Told) -> None:
    assert refused("loss.lam = 0.1")[0][2] == "loss.lam=0.1"


def test_an_unknown_loss_is_told_how_ones_own_is_named(refused: Told) -> None:
    assert "loss=custom loss._target_=my_module.MyClass" in refused("loss=review_kd")[0][1]


@pytest.mark.parametrize(
    ("command", "what", "fix"),
    [
        ("--hlep", "unrecognized arguments: --hlep", "--help"),
        ("--lr 0.1", "--lr is not a flag", "optim.lr=0.1"),
        ("--seed=3", "--seed is not a flag", "seed=3"),
        ("--batch-size 32 loss=ce", "--batch-size is not a flag", "data.batch_size=32"),
        ("--cfg jobs", "invalid choice: 'jobs'", "--help"),
        ("-m seed=1,2 --cfg job", "-m and --cfg do not go together", "--cfg job with one value"),
        ("--resolve", "--resolve and --package do nothing alone", "--cfg job --resolve"),
        ("--config-dir nowhere", "--config-dir nowhere: there is no such folder", "--config-dir conf"),
        ("task=evaluate run=runs/x -m", "run=runs/x: there is no such folder", "run=runs/NAME"),
    ],
)
def test_a_mistake_in_flags_too(told: Told, command: str, what: str, fix: str) -> None:
    [(said, why, typed)] = told(*command.split())
    assert what in said
    assert why
    assert fix in typed


def test_all_mistakes_of_a_command_at_once(refused: Told) -> None:
    found = refused("loss.alpha=2", "loss.lamda=3", "student=resnet18x", "data=cifar10", "seed=x")
    assert [what.partition(" ")[0].partition(":")[0] for what, _, _ in found] == [
        "student=resnet18x",
        "loss.lamda",
        "loss.alpha=2",
        "seed=x",
        "there",
    ]


def test_every_job_of_a_sweep_is_checked_before_the_first(told: Told) -> None:
    found = told("-m", "seed=1,2", "loss=tser,tserr", "loss.alpha=0.5,2")
    assert [what for what, _, _ in found] == [
        "loss.alpha=2 is not a number from 0 to 1",
        "loss=tserr: there is no loss of that name",
    ]


def test_what_follows_from_a_mistake_is_not_said_again(refused: Told) -> None:
    assert len(refused("loss.alpha=abc")) == 1
    assert len(refused("loss.tau_squared=0")) == 1


def stop(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("a", "b", "c"), 2),
        (RunError("a", "b", "c"), 1),
        (RuntimeError("a"), 1),
        (KeyboardInterrupt(), 130),
        (SystemExit(143), 143),
        (SystemExit(None), 0),
        (SystemExit("a"), 1),
    ],
)
def test_every_ending_has_its_exit_code(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(stop(error)) == code
    said = capsys.readouterr().err
    assert ("Traceback" in said) == isinstance(error, RuntimeError) - isinstance(error, RunError)
    if isinstance(error, UsageError | RunError):
        assert said == "tser: a\n  why: b\n  try: c\n"


def test_the_users_own_modules_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", os.getcwd())])
    assert main(["--version"]) == 0
    assert str(folder) in sys.path
