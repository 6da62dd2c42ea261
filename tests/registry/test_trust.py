import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import Run, compose_run
from tser_lightning.config.usage_errors import UsageErrors
from tser_lightning.deploy.load import load_student
from tser_lightning.errors import UsageError
from tser_lightning.models import Student
from tser_lightning.registry.build import build_network, factory, instantiate
from tser_lightning.registry.trust import NAMES, trust, trusted
from tser_lightning.sweep.combinations import jobs_of
from tser_lightning.sweep.multirun import multirun
from tser_lightning.tasks.evaluate import received

ROOT = Path(__file__).parent.parent.parent

Triple = tuple[str, str, str]

# Each would touch a file if it ran.
HOSTILE = [
    {"_target_": "os.system", "command": "touch {}"},
    {"_target_": "subprocess.call", "args": ["touch", "{}"]},
    {"_target_": "subprocess.Popen", "args": ["touch", "{}"]},
    {"_target_": "builtins.exec", "_args_": ["open('{}', 'w')"]},
    {"_target_": "builtins.open", "file": "{}", "mode": "w"},
    {"_target_": "pathlib.Path.touch", "_args_": ["{}"]},
    {"_target_": "torch.nn.functional.os.system", "_args_": ["touch {}"]},
    {"_target_": "torch.optim.lr_scheduler.os.system", "_args_": ["touch {}"]},
    {"_target_": "tser_lightning.atomic_io.write_text", "path": "{}", "text": ""},
    {"_target_": "tser_lightning.training.checkpoints.write_bytes", "path": "{}", "content": ""},
    {"_target_": "torch.utils.cpp_extension.subprocess.call", "_args_": [["touch", "{}"]]},
    {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "os.system", "command": "touch {}"}]},
    {"_target_": "mine.os.system", "command": "touch {}"},
    {"_target_": "torch.hub.load", "repo_or_dir": "{}", "model": "x", "source": "local"},
    {"_target_": "torch.load", "f": "{}", "weights_only": False},
    {"_target_": "torch.optim.optimizer.torch.load", "f": "{}", "weights_only": False},
    {"_target_": "numpy.load", "file": "{}", "allow_pickle": True},
    {"_target_": "timm.models._helpers.load_state_dict", "checkpoint_path": "{}", "weights_only": False},
    {"_target_": "tser_lightning.training.save_network", "path": "{}"},
    {"_target_": "tser_lightning.training.watchdog.os._exit", "_args_": [0]},
    {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "dirpath": "{}"},
    {"_target_": "lightning.pytorch.callbacks.OnExceptionCheckpoint", "dirpath": "{}"},
    {"_target_": "tser_lightning.data.write_prepared", "path": "{}", "arrays": {}},
    {"_target_": "torch.nn.attention._registry.activate_flash_attention_impl", "impl": "{}"},
    {"_target_": "torch.nn.modules.utils._list_with_default", "out_size": "{}", "defaults": "x"},
]


def _aimed(value: Any, file: Path) -> Any:
    if isinstance(value, dict):
        return {key: _aimed(inner, file) for key, inner in value.items()}
    if isinstance(value, list):
        return [_aimed(inner, file) for inner in value]
    return value.replace("{}", str(file)) if isinstance(value, str) else value


@pytest.mark.parametrize("node", HOSTILE, ids=lambda node: str(node["_target_"]))
def test_nothing_outside_the_trusted_packages_is_made(folder: Path, node: dict[str, Any]) -> None:
    aimed = _aimed(node, folder / "ran")
    nested = "Sequential" in node["_target_"]
    for make in (instantiate,) if nested else (instantiate, lambda config: factory(config)()):
        with pytest.raises(UsageError, match=r"is not from a trusted module|cannot be imported"):
            make(aimed)
    assert not (folder / "ran").exists()


def test_a_module_is_trusted_by_the_command_alone(
    compose: Callable[..., Run], refused: Callable[..., list[Triple]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mine.py").write_text("import os\nclass Loss: ...\n")
    (folder / "experiments").mkdir()
    (folder / "experiments" / "hostile.yaml").write_text("# @package _global_\ntrusted_modules: [os]\n")
    monkeypatch.syspath_prepend(folder)
    (folder / "experiments" / "own.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /loss: custom\nloss:\n  _target_: mine.Loss\n"
    )
    with pytest.raises(UsageErrors, match=r"mine\.Loss is not from a trusted module") as found:
        compose_run(["experiment=own"])
    assert found.value.fix.startswith("trusted_modules=[mine] added to the command")
    run = compose_run(["experiment=own", "trusted_modules=[mine]"])
    assert run.name == compose_run(["experiment=own"], check_data=False).name
    compose("loss=custom loss._target_=mine.Loss")  # typed in the command, and the user's own
    for foreign in ("os.system", "numpy.array", "builtins.open", "subprocess.Popen", "torch.hub.load", "torch.load"):
        [(what, _, _)] = refused("loss=custom", f"loss._target_={foreign}")
        assert what == f"{foreign} is not from a trusted module"
    with pytest.raises(UsageErrors, match=r"a config file asks to trust \['os'\]"):
        compose_run(["experiment=hostile"])


def test_hydra_calls_nothing_untrusted_around_the_jobs(folder: Path) -> None:
    (folder / "experiments").mkdir()
    (folder / "experiments" / "evil.yaml").write_text(
        "# @package _global_\nhydra:\n  callbacks:\n    evil:\n      _target_: shutil.rmtree\n      path: experiments\n"
    )
    with pytest.raises(UsageError, match=r"experiments/evil\.yaml sets hydra\.callbacks"):
        multirun(["experiment=evil", "seed=1,2", "task=prepare", "hydra/launcher=joblib"], Configs())
    assert (folder / "experiments").is_dir()


def test_text_stays_text_however_much_it_looks_like_a_config(folder: Path) -> None:
    hidden = "${oc.create:{_target_: builtins.open, file: ran, mode: w}}"
    term = {"_target_": "tser_lightning.losses.CrossEntropy", "over": hidden}
    with pytest.raises(UsageError, match="no way to treat the time steps"):
        instantiate({"_target_": "tser_lightning.losses.DistillationLoss", "terms": {"ce": term}})
    (folder / "experiments").mkdir()
    (folder / "experiments" / "sent.yaml").write_text(f'# @package _global_\nneuron:\n  surrogate: "\\{hidden}"\n')
    with pytest.raises((UsageErrors, UsageError, ValueError)):
        factory(compose_run(["experiment=sent"]).config["neuron"])(8)
    assert not (folder / "ran").exists()


# Experiment files, each of which would write the file `ran` if what it asks for was done; `evil` is a module beside it.
TEXT = "${oc.create:{_target_: evil.X}}"
FILES = {
    "a module of the folder": "loss: {_target_: evil.X}",
    "a callback of it": "callbacks: {x: {_target_: evil.X}}",
    "inside a list": "callbacks: {x: {_target_: lightning.pytorch.callbacks.Timer, duration: [{_target_: evil.X}]}}",
    "inside a term": "loss: {_target_: tser_lightning.losses.DistillationLoss, terms: {a: {_target_: evil.X}}}",
    "a neuron": "neuron: {_target_: evil.X}",
    "an optimiser": "optim: {_target_: evil.X}",
    "a data set": "data: {_target_: evil.X}",
    "the whole of torch.nn": "callbacks: {x: {_target_: torch.nn.Sequential}}",
    "a loader of torch": "callbacks: {x: {_target_: torch.load, f: w.pkl, weights_only: false}}",
    "a loader of joblib": "callbacks: {x: {_target_: joblib.load, filename: w.pkl}}",
    "a loader of numpy": "callbacks: {x: {_target_: numpy.load, file: w.pkl, allow_pickle: true}}",
    "a loader of lightning": "callbacks: {x: {_target_: lightning.pytorch.callbacks.ModelCheckpoint, dirpath: ran}}",
    "through a listed module": "callbacks: {x: {_target_: tser_lightning.data.import_module, name: evil}}",
    "through its parts": "callbacks: {x: {_target_: tser_lightning.data.prepared.write_bytes, path: ran, content: x}}",
    "our writer": "callbacks: {x: {_target_: tser_lightning.data.write_prepared, path: ran, arrays: {}}}",
    "our zoo": "student: {_target_: tser_lightning.models.from_timm, model: resnet18, checkpoint_path: w.pkl}",
    "hydra's own caller": "callbacks: {x: {_target_: hydra.utils.instantiate, config: {_target_: evil.X}}}",
    "a method": "callbacks: {x: {_target_: hydra.utils.get_method, path: evil.X}}",
    "trust in the file": "trusted_modules: [evil]\nloss: {_target_: evil.X}",
    "positional arguments": "optim: {_args_: [{_target_: evil.X}]}",
    "a partial": "optim: {_partial_: true}",
    "recursion": "optim: {_recursive_: false}",
    "conversion": "optim: {_convert_: all}",
    "a target that is no text": "callbacks: {x: {_target_: [evil.X]}}",
    "a created config": f'loss: {{label_smoothing: "{TEXT}"}}',
    "an escaped one": f'loss: {{label_smoothing: "\\\\{TEXT}"}}',
    "one escaped twice": f'loss: {{label_smoothing: "\\\\\\\\{TEXT}"}}',
    "one as a callback": f'callbacks: {{x: "{TEXT}"}}',
    "the environment": 'logging: {wandb: {project: "${oc.env:HOME}"}}',
    "decoded text": "loss: {label_smoothing: '${oc.decode:\"{_target_: evil.X}\"}'}",
    "a resolver named by another": 'a: oc\nloss: {label_smoothing: "${${a}.env:HOME}"}',
    "deprecated": 'loss: {label_smoothing: "${oc.deprecated:seed}"}',
    "callbacks of Hydra": "hydra: {callbacks: {x: {_target_: evil.X}}}",
    "its logging": "hydra: {job_logging: {version: 1, handlers: {x: {class: logging.FileHandler, filename: ran}}}}",
    "its other logging": "hydra: {hydra_logging: {version: 1, handlers: {x: {(): evil.X}}}}",
    "its search path": "hydra: {searchpath: [pkg://evil]}",
    "its launcher": "hydra: {launcher: {_target_: evil.X}}",
    "its sweeper": "hydra: {sweeper: {_target_: evil.X, params: {seed: 1}}}",
    "its folders": "hydra: {sweep: {dir: /tmp/ran}}",
    "its environment": "hydra: {job: {env_set: {PYTHONPATH: .}}}",
    "a launcher among the choices": "defaults:\n  - override /hydra/launcher: joblib",
    "a logging among the choices": "defaults:\n  - override hydra/job_logging: default",
    "a package of Hydra among the choices": "defaults:\n  - /loss@hydra.callbacks.x: ce",
    "a sweep over what is trusted": "hydra: {sweeper: {params: {trusted_modules: '[evil]'}}}",
    "a sweep over a target": "hydra: {sweeper: {params: {loss._target_: evil.X}}}",
    "a sweep over a node": "hydra: {sweeper: {params: {loss: '{_target_: evil.X}'}}}",
    "a sweep over Hydra": "hydra: {sweeper: {params: {hydra.callbacks.x._target_: evil.X}}}",
    "a sweep that adds": "hydra: {sweeper: {params: {+callbacks.x._target_: evil.X}}}",
    "a sweep over folders": "hydra: {sweeper: {params: {machine.runs_dir: /tmp/ran}}}",
    "runs elsewhere": "machine: {runs_dir: /tmp/ran}",
    "runs above": "machine: {runs_dir: ../ran}",
    "runs at home": "machine: {runs_dir: ~/ran}",
    "data elsewhere": "data: {root: /tmp/ran}",
    "a report elsewhere": "report: {dir: /tmp/ran}",
    "a bomb": "a: &a [x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{','.join(['*' + a] * 8)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "a bomb of text": "a: xxxxxxxxxx\n"
    + "".join(f'{b}: "{("${" + a + "}") * 9}"\n' for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "what refers to itself": "callbacks: &a {x: *a}",
    "a deep one": "a: " + "[" * 5000 + "]" * 5000,
    "a long one": "a: [" + "1," * 300_000 + "1]",
    "an object of Python": "loss: !!python/object/apply:os.system ['touch ran']",
    "a name of Python": "loss: !!python/name:evil.X",
}
EVIL = "open('ran', 'w').close()\nclass X: ...\n"
COMMANDS = {"data elsewhere": "data=cifar10", "a report elsewhere": "task=report"}


@pytest.fixture
def with_evil(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with what would leave a trace if it was imported or unpickled."""
    (folder / "evil.py").write_text(EVIL)
    (folder / "w.pkl").write_bytes(b"cposix\nsystem\n(S'touch ran'\ntR.")
    (folder / "experiments").mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.mark.parametrize("kind", FILES)
def test_an_experiment_that_was_found_runs_nothing(with_evil: Path, kind: str) -> None:
    (with_evil / "experiments" / "found.yaml").write_text(f"# @package _global_\n{FILES[kind]}\n")
    start = time.process_time()
    with pytest.raises((UsageError, UsageErrors)):
        multirun(
            ["experiment=found", "teacher=none", "debug=step", *COMMANDS.get(kind, "").split()],
            Configs(),
        )
    assert time.process_time() - start < 5
    assert not (with_evil / "ran").exists()
    assert "evil" not in sys.modules


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("loss/mine.yaml", "# @package hydra.callbacks.x\n_target_: evil.X"),
        ("loss/mine.yaml", "# @package _global_.hydra.callbacks\nx: {_target_: evil.X}"),
        ("loss/mine.yaml", "_target_: evil.X"),
        ("loss/mine.yaml", "# @package _global_\nhydra: {callbacks: {x: {_target_: evil.X}}}"),
        ("experiment/digits.yaml", "# @package _global_\nhydra: {searchpath: [file:///tmp]}"),
        ("train.yaml", "defaults: [_self_]\nhydra: {searchpath: [file:///tmp]}"),
        ("machine/auto.yaml", "runs_dir: /tmp/ran"),
        ("hydra/launcher/basic.yaml", "_target_: evil.X"),
        ("callbacks/none.yaml", "x: {_target_: evil.X}"),
    ],
)
def test_a_folder_of_groups_runs_nothing(with_evil: Path, file: str, text: str) -> None:
    path = with_evil / "sent" / file
    path.parent.mkdir(parents=True)
    path.write_text(f"{text}\n")
    command = ["seed=1,2", "debug=step", *(["loss=mine"] if "loss" in file else [])]
    with pytest.raises((UsageError, UsageErrors)):
        multirun([*command, *(["hydra/launcher=basic"] if "launcher" in file else [])], Configs("sent"))
    assert not (with_evil / "ran").exists()


def test_a_found_file_still_says_what_to_compute(with_evil: Path) -> None:
    (with_evil / "experiments" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /loss: ts\nmachine: {runs_dir: here/runs}\n"
        "loss: {alpha: 0.3}\nstudent: {timesteps: 3}\nnorm: {momentum: '${loss.alpha}'}\n"
        "callbacks: {x: {_target_: lightning.pytorch.callbacks.Timer}}\n"
        "hydra: {sweeper: {params: {loss.tau: '1,2', seed: 'range(1,3)'}}}\n"
    )
    run = compose_run(["experiment=mine", "teacher.weights=train"])
    assert (run.config["norm"]["momentum"], run.config["machine"]["runs_dir"]) == (0.3, "here/runs")
    elsewhere = compose_run(["experiment=mine", f"machine.runs_dir={with_evil.parent}/other", "teacher.weights=train"])
    assert elsewhere.name == run.name
    assert len(jobs_of(["experiment=mine"], Configs())) == 4


CARD: dict[str, Any] = {
    "student": {"_target_": "tser_lightning.models.resnet_small", "timesteps": 2, "widths": [4, 8]},
    "neuron": {"_target_": "tser_lightning.neurons.IF"},
    "norm": {"_target_": "torch.nn.BatchNorm2d"},
    "num_classes": 3,
    "shape": [1, 8, 8],
}


@pytest.mark.parametrize(
    "changed",
    [
        {"neuron": {"_target_": "evil.X"}},
        {"norm": {"_target_": "torch.nn.BatchNorm2d", "_args_": [{"_target_": "evil.X"}]}},
        {"neuron": {"_target_": "tser_lightning.neurons.IF", "surrogate": "${oc.create:{_target_: evil.X}}"}},
        {"student": {"_target_": "torch.hub.load", "repo_or_dir": ".", "model": "X", "source": "local"}},
        {"student": {**CARD["student"], "widths": [10**9, 10**9]}},
        {"student": {**CARD["student"], "widths": [10**6, 10**6]}},
        {"num_classes": 10**12},
        {"num_classes": "many"},
        {"shape": []},
        {"neuron": None},
        {"student": 5},
    ],
)
def test_a_student_that_was_sent_is_built_of_what_is_listed(with_evil: Path, changed: dict[str, Any]) -> None:
    weights = with_evil / "student.safetensors"
    card = weights.with_suffix(".json")
    card.write_text(json.dumps(CARD))
    network = build_network(
        CARD["student"], num_classes=3, in_channels=1, activation=factory(CARD["neuron"]), norm=CARD["norm"]
    )
    save_file(Student(network, 2).state_dict(), weights)
    assert load_student(weights).timesteps == 2
    card.write_text(json.dumps({**CARD, **changed}))
    with pytest.raises(UsageError):
        load_student(weights)
    assert not (with_evil / "ran").exists()


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{", "\x00", '{"student": ' * 900 + "1" + "}" * 900])
def test_a_card_that_is_none_is_said_to_be_damaged(folder: Path, text: str) -> None:
    (folder / "student.safetensors").write_bytes(b"")
    (folder / "student.json").write_text(text)
    with pytest.raises(UsageError, match=r"student\.json cannot be used"):
        load_student(folder / "student.safetensors")


@pytest.mark.parametrize("names", [5, {"a": 1}, [1, 2], "ab"])
def test_class_names_that_are_no_list_of_names_are_said_to_be_damaged(folder: Path, names: Any) -> None:
    (folder / "student.json").write_text(json.dumps({"classes": names}))
    with pytest.raises(UsageError, match="its classes are not a list of names"):
        load_student(folder)


@pytest.mark.parametrize("kind", [kind for kind in FILES if "_target_" in FILES[kind] and "hydra: " not in FILES[kind]])
def test_a_run_that_was_sent_is_measured_with_what_is_listed(with_evil: Path, kind: str) -> None:
    file = with_evil / "config.yaml"
    file.write_text(FILES[kind] if "trusted" not in kind else "loss: {_target_: evil.X}")
    with pytest.raises(UsageError):
        received(file)
    assert not (with_evil / "ran").exists()


def test_modules_of_the_folder_do_not_stand_in_for_others(with_evil: Path) -> None:
    for name in ("yaml", "torch", "threading", "signal", "hydra", "omegaconf", "argparse", "json"):
        (with_evil / f"{name}.py").write_text(EVIL)
    (with_evil / "hydra_plugins").mkdir()
    for name in ("__init__", "evil_plugin"):
        (with_evil / "hydra_plugins" / f"{name}.py").write_text(EVIL)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    for module in ("tser_lightning", "tser_lightning.cli.job"):
        command = [sys.executable, "-m", module, "--cfg", "job"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, input="", check=False)
        assert "cnn_small" in done.stdout or module.endswith("job"), done.stderr
        assert not (with_evil / "ran").exists()


def test_the_list_names_what_there_is() -> None:
    for name in NAMES:
        module, _, last = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), last)), name


def test_a_name_is_trusted_by_itself() -> None:
    assert trusted("torch.nn.BatchNorm2d")
    assert not trusted("torch.nn.Sequential")
    assert not trusted("torch.nn.BatchNorm2d.load_state_dict")
    assert not trusted("torch.load")
    trust("mypackage.losses")
    assert trusted("mypackage.losses.Mine")
    assert not trusted("mypackage.Other")


def test_what_is_on_the_list_may_be_had_through_a_module_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_shelf.py").write_text(
        "from tser_lightning.models import resnet_small as net\nfrom os import system\n"
        "from tser_lightning.data.prepared import write_prepared\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    trust("my_shelf")
    assert callable(factory({"_target_": "my_shelf.net"}))
    for name in ("system", "write_prepared"):
        with pytest.raises(UsageError, match="is not from a trusted module"):
            factory({"_target_": f"my_shelf.{name}"})
