from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tser_lightning.cli.build import factory, instantiate
from tser_lightning.cli.config import Configs
from tser_lightning.cli.mistakes import Mistakes
from tser_lightning.cli.multirun import multirun
from tser_lightning.cli.run import Run, compose_run
from tser_lightning.cli.trust import trust, trusted
from tser_lightning.mistake import Mistake

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
    {"_target_": "tser_lightning.durable.write_text", "path": "{}", "text": ""},
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
    {"_target_": "tser_lightning.training.companions.os._exit", "_args_": [0]},
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
        with pytest.raises(Mistake, match=r"is not from a trusted module|cannot be imported"):
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
    with pytest.raises(Mistakes, match=r"mine\.Loss is not from a trusted module") as found:
        compose_run(["experiment=own"])
    assert found.value.fix.startswith("trusted_modules=[mine] added to the command")
    run = compose_run(["experiment=own", "trusted_modules=[mine]"])
    assert run.name == compose_run(["experiment=own"], check_data=False).name
    compose("loss=custom loss._target_=mine.Loss")  # typed in the command, and the user's own
    for foreign in ("os.system", "numpy.array", "builtins.open", "subprocess.Popen", "torch.hub.load", "torch.load"):
        [(what, _, _)] = refused("loss=custom", f"loss._target_={foreign}")
        assert what == f"{foreign} is not from a trusted module"
    with pytest.raises(Mistakes, match=r"a config file asks to trust \['os'\]"):
        compose_run(["experiment=hostile"])


def test_hydra_calls_nothing_untrusted_around_the_jobs(folder: Path) -> None:
    (folder / "experiments").mkdir()
    (folder / "experiments" / "evil.yaml").write_text(
        "# @package _global_\nhydra:\n  callbacks:\n    evil:\n      _target_: shutil.rmtree\n      path: experiments\n"
    )
    with pytest.raises(Mistakes, match=r"shutil\.rmtree is not from a trusted module"):
        multirun(["experiment=evil", "seed=1,2", "task=prepare", "hydra/launcher=joblib"], Configs())
    assert (folder / "experiments").is_dir()


def test_text_stays_text_however_much_it_looks_like_a_config(folder: Path) -> None:
    hidden = "${oc.create:{_target_: builtins.open, file: ran, mode: w}}"
    term = {"_target_": "tser_lightning.losses.CrossEntropy", "over": hidden}
    with pytest.raises(Mistake, match="no way to treat the time steps"):
        instantiate({"_target_": "tser_lightning.losses.DistillationLoss", "terms": {"ce": term}})
    (folder / "experiments").mkdir()
    (folder / "experiments" / "sent.yaml").write_text(f'# @package _global_\nneuron:\n  surrogate: "\\{hidden}"\n')
    with pytest.raises((Mistakes, Mistake, ValueError)):
        factory(compose_run(["experiment=sent"]).config["neuron"])(8)
    assert not (folder / "ran").exists()


def test_a_prefix_of_a_name_is_no_package() -> None:
    assert trusted("torch.nn.Linear")
    assert not trusted("torch.nnx.Linear")
    assert not trusted("torch.load")
    trust("mypackage.losses")
    assert trusted("mypackage.losses.Mine")
    assert not trusted("mypackage.Other")
