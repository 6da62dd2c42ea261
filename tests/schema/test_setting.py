import importlib
import inspect
import subprocess
import sys
from typing import Any

import pytest

from tser_lightning.config.defaults import leaves
from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import compose_run
from tser_lightning.registry.build import factory, instantiate
from tser_lightning.registry.targets import MISSING
from tser_lightning.schema import setting as schema_setting
from tser_lightning.schema.setting import Setting, Settings, about, setting, settings_of, takes_a_list, undeclared

TSER = {"loss": {"_target_": "tser_lightning.losses.TSER"}}


def of(key: str, config: dict[str, Any]) -> Setting:
    found = setting(config, key)
    assert found is not None, key
    return found


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("loss.alpha", [0, 1, 0.3], [-0.1, 1.1, "0.3", None, True, float("nan")]),
        ("loss.tau", [1, 0.1], [0, -1, float("inf"), 10**400]),
        ("student.timesteps", [1, 1000], [0, 1.0, "4", True, None]),
        ("optim.momentum", [0, 0.99], [1, -0.1]),
        ("teacher.training.optim.lr", [1e-6, 3], [0, -1]),
        ("machine.workers", ["auto", 0, 8], ["many", -1, 1.5, None]),
        ("machine.devices", ["auto", 1, [0, 3]], [0, "two", -1, True]),
        ("machine.compile", [True, False, "reduce-overhead"], [1, "yes", None]),
        ("trainer.clip", [None, 1.0], [0, "none"]),
        ("trainer.ema", [None, 0.999], [0, 1, "none"]),
        ("data.shape", [[3, 32, 32]], [[3, 32], [3, 32, 0], 3, [1.5, 8, 8]]),
        ("data.augment.crop", [0, 4], [-1, 1.5, None]),
        ("teacher.weights", [None, "a.pt"], [5, "", True]),
        ("selection", ["val"], ["test", None]),
        ("runs", ["runs/*", ["a", "b"]], [[1], "", 3]),
    ],
)
def test_what_a_setting_takes(key: str, good: list[Any], bad: list[Any]) -> None:
    config = {
        **TSER,
        "optim": {"_target_": "torch.optim.SGD"},
        "teacher": {"training": {"optim": {"_target_": "torch.optim.SGD"}}},
        "data": {"_target_": "tser_lightning.data.Digits"},
    }
    known = of(key, config)
    assert [value for value in good if not known.takes(value)] == []
    assert [value for value in bad if known.takes(value)] == []


@pytest.mark.parametrize(
    ("default", "ours", "good", "bad"),
    [
        (True, True, [True, False], [0, 1, "true", None]),
        (2, True, [3, -1], [2.5, "2", None, True]),
        (2, False, [3, -1, 2.5], ["2", None, True]),
        (2.0, True, [3, -1.5], ["2", None, float("nan")]),
        ("a", True, ["b"], [1, None, "", True]),
        (["stage4"], True, [["stage1", "stage2"], []], ["stage1", [1], None]),
        (None, True, [None, 1, "a", [1]], [float("inf")]),
    ],
)
def test_what_nothing_declares_is_of_the_type_of_its_default(
    default: Any, ours: bool, good: list[Any], bad: list[Any]
) -> None:
    known = undeclared("new", default, ours)
    assert [value for value in good if not known.takes(value)] == []
    assert [value for value in bad if known.takes(value)] == []


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("loss.alpha", "a number from 0 to 1"),
        ("loss.tau", "a number above 0"),
        ("selection", "one of val, last, paper"),
        ("machine.slots", "a whole number from 1 to 1024 or auto"),
        ("machine.devices", "a whole number from 1 or a list [...], each item a whole number from 0 or auto"),
        ("trainer.ema", "a number above 0 below 1 or null"),
        ("force", "true or false"),
        ("teacher.weights", "text or null"),
    ],
)
def test_a_setting_says_in_words_what_it_takes(key: str, wanted: str) -> None:
    assert of(key, TSER).wanted == wanted


def test_a_whole_number_becomes_a_fraction_where_one_is_declared() -> None:
    assert type(of("loss.tau", TSER).as_declared(4)) is float
    assert type(of("seed", TSER).as_declared(4)) is int


def test_a_class_of_ones_own_has_no_ranges_but_what_is_read_beside_it_has() -> None:
    own = {"loss": {"_target_": "my_losses.Mine"}, "student": {"_target_": "my_models.net"}}
    assert setting(own, "loss.alpha") is None
    assert not of("student.timesteps", own).takes(0)


def test_a_list_is_known_by_its_name_alone() -> None:
    assert all(takes_a_list(name) for name in ("shape", "mean", "widths", "student_taps", "tags", "trusted_modules"))
    assert not any(takes_a_list(name) for name in ("tau", "seed", "runs"))


def test_a_new_declaration_is_found_by_its_target() -> None:
    class Mine(Settings, targets=("mine.Loss",)):
        weight: float = about("of the whole", default=1.0)

    schema_setting._settings_of.cache_clear()
    try:
        known = of("loss.weight", {"loss": {"_target_": "mine.Loss"}})
        assert (known.meaning, known.has_default, known.wanted) == ("of the whole", True, "a number")
    finally:
        del Settings.by_target["mine.Loss"]
        schema_setting._settings_of.cache_clear()


def test_every_option_composes_and_its_values_are_declared_and_taken(configs: Configs) -> None:
    groups = [group for group in configs.groups() if group not in ("experiment", "task")]
    options = {group: configs.options(group) for group in groups}
    wrong = []
    for index in range(max(map(len, options.values()))):  # an option of every group at once: to compose is dear
        words = [f"{group}={names[index % len(names)]}" for group, names in options.items()]
        run = compose_run(["experiment=none", *words], check_data=False, configs=configs)
        chosen = (word.split("=") for word in words)
        assert all(run.choices[group].startswith(option) for group, option in chosen)  # resnet is resnet18
        assert run.changed == {}
        config = run.config
        places = {"data" if group == "augment" else group for group in groups} - {"sweep", "callbacks"}
        for key, value in leaves({place: config[place] for place in places}):
            if key.rpartition(".")[2] != "_target_" and value != MISSING:
                known = setting(config, key)
                if known is None or not known.meaning or not known.takes(value):
                    wrong.append(f"{' '.join(words)}: {key}={value}")
    assert wrong == []


def made_from(target: str) -> tuple[dict[str, inspect.Parameter], bool]:
    """Give the arguments that a target names, those of its base classes included, and whether it takes others."""
    module, _, name = target.rpartition(".")
    made = getattr(importlib.import_module(module), name)
    found: dict[str, inspect.Parameter] = {}
    for owner in made.__mro__ if inspect.isclass(made) else [made]:
        called = owner.__dict__.get("__init__") if inspect.isclass(owner) else owner
        own = inspect.signature(called).parameters if called else {}
        found = {**own, **found}
        others = any(each.kind is each.VAR_KEYWORD for each in own.values())
        if called and not others:
            break
    named = {key: each for key, each in found.items() if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    return named, others


def _targets() -> list[str]:
    settings_of("")  # reads all declarations
    return sorted(target for target in Settings.by_target if target.startswith("tser_lightning."))


@pytest.mark.parametrize("target", _targets())
def test_what_is_declared_are_arguments_of_the_class_with_the_same_defaults(target: str) -> None:
    arguments, others = made_from(target)
    known = {name: Setting(name, field) for name, field in Settings.by_target[target].model_fields.items()}
    assert others or known.keys() <= arguments.keys()
    for name, each in known.items():
        if each.has_default and name in arguments:
            assert each.field.default == arguments[name].default, name


# What somebody who adds a surrogate or a backend writes, and nothing else.
NEW = """
import sys
from tser_lightning.kernels import backends, surrogate

def gaussian(u, scale=1.5):
    return (-(scale * u).square()).exp() * scale / 1.7724538509055159

surrogate.SURROGATES["gaussian"] = surrogate.Surrogate(gaussian, 1.5)
backends.MODULES["mine"] = "mine"

from tser_lightning.cli.main import main
from tser_lightning.cli import reference

main(["--help", "neuron=lif"])
assert main(["neuron.surrogate=gausian"]) == 2
assert main(["neuron.backend=mine", "--cfg", "job"]) == 0
print(reference.reference())
assert "torch" not in sys.modules

from tser_lightning import build_neuron
print(build_neuron("lif", surrogate="gaussian", backend="eager"))
"""


def test_a_surrogate_or_backend_of_the_registry_is_helped_checked_and_documented() -> None:
    done = subprocess.run([sys.executable, "-c", NEW], capture_output=True, text=True)
    assert "try: neuron.surrogate=gaussian" in done.stderr
    assert done.returncode == 0, done.stderr
    helped, documented = " ".join(done.stdout.split()).split("# Settings", 1)
    for text in (helped, documented):
        assert ", gaussian" in text
        assert ", gaussian 1.5" in text
    assert "surrogate='gaussian'" in documented


def test_choices_are_those_of_the_library() -> None:
    from tser_lightning.training.trainer import FOLLOWED

    lif = {"neuron": {"_target_": "tser_lightning.neurons.LIF"}}
    assert set(of("selection", lif).names) == set(FOLLOWED)


BOUNDED = [(group, option) for group in ("loss", "neuron") for option in Configs().options(group)]


@pytest.mark.parametrize(("group", "option"), [each for each in BOUNDED if each[1] != "custom"])
def test_what_a_setting_refuses_its_class_refuses_too(group: str, option: str, configs: Configs) -> None:
    """Who builds a loss or a neuron in Python has no schema before it."""
    config = compose_run([f"{group}={option}", "experiment=none"], check_data=False, configs=configs).config
    node = config[group]
    for name, value in node.items():
        known = setting(config, f"{group}.{name}")
        if known and isinstance(value, float) and not isinstance(value, bool) and not known.takes(-4.0):
            wrong = {**node, name: -4.0}
            with pytest.raises(ValueError, match=name):
                factory(wrong)(8) if group == "neuron" else instantiate(wrong)
