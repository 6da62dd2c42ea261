import re
from typing import Any

import pytest

from tser_lightning.config.hydra_loader import folder
from tser_lightning.config.rules import RULES, OneOf, rule
from tser_lightning.training.fit import FOLLOWED


@pytest.mark.parametrize(
    ("key", "default", "good", "bad"),
    [
        ("loss.alpha", 0.5, [0, 1, 0.3], [-0.1, 1.1, "0.3", None, True, float("nan")]),
        ("loss.tau", 5.0, [1, 0.1], [0, -1, float("inf")]),
        ("student.timesteps", 4, [1, 1000], [0, 1.0, "4", True, None]),
        ("optim.momentum", 0.9, [0, 0.99], [1, -0.1]),
        ("teacher.training.optim.lr", 0.1, [1e-6, 3], [0, -1]),
        ("machine.workers", "auto", ["auto", 0, 8], ["many", -1, 1.5, None]),
        ("machine.devices", "auto", ["auto", 1, [0, 3]], [0, "two", [], -1][:2]),
        ("trainer.clip", None, [None, 1.0], [0, "none"]),
        ("trainer.ema", None, [None, 0.999], [0, 1, "none"]),
        ("data.shape", [1, 8, 8], [[3, 32, 32]], [[3, 32], [3, 32, 0], 3, [1.5, 8, 8]]),
        ("teacher.weights", "train", [None, "a.pt"], [5, "", True]),
        ("loss.new_switch", True, [True, False], [0, 1, "true", None]),
        ("loss.new_number", 2, [3, -1], [2.5, "2", None, True]),
        ("loss.new_fraction", 2.0, [3, -1.5], ["2", None, float("nan")]),
        ("loss.new_text", "a", ["b"], [1, None, "", True]),
        ("loss.new_list", ["stage4"], [["stage1", "stage2"], []], ["stage1", [1], None]),
        ("loss.new_anything", None, [None, 1, "a", [1]], [float("inf")]),
    ],
)
def test_what_a_setting_takes(key: str, default: Any, good: list[Any], bad: list[Any]) -> None:
    known = rule(key, default)
    assert [value for value in good if not known.accepts(value)] == []
    assert [value for value in bad if known.accepts(value)] == []


def test_choices_are_those_of_the_library() -> None:
    from tser_lightning.kernels.backends import BACKENDS
    from tser_lightning.kernels.surrogate import SURROGATES

    def choices(key: str) -> set[str | None]:
        known = RULES[key]
        assert isinstance(known, OneOf)
        return set(known.names)

    assert choices("neuron.backend") == set(BACKENDS)
    assert choices("neuron.surrogate") == set(SURROGATES)
    assert choices("selection") == set(FOLLOWED)


CHOICES = re.compile(
    r"^ *(\w+): [^#\n]*# (?:[^#:\n|]*: )?([\w.-]+(?: \([^)]*\))?(?: \| [\w.-]+(?: \([^)]*\))?)+)", re.MULTILINE
)


def test_every_choice_that_a_config_file_names_is_one_and_no_other_is() -> None:
    found = 0
    for file in sorted(folder("conf").glob("*/*.yaml")):
        group = file.parent.name
        for name, listed in CHOICES.findall(file.read_text()):
            if name in ("weights", "auto", "start"):
                continue  # files and names of others besides
            inside = {"logging": "logging.wandb.", "callbacks": ""}.get(group, f"{group}.")
            known = rule(f"{inside}{name}", "text")
            names = [word.partition(" (")[0].strip() for word in listed.split("|")]
            found += 1
            assert not known.accepts("foo"), f"{file}: {name} takes anything"
            assert all(known.accepts(None if word == "null" else word) for word in names), f"{file}: {name}: {names}"
    assert found > 30


def test_a_class_of_ones_own_has_types_but_no_ranges() -> None:
    assert not rule("loss.alpha", 0.5).accepts(7)
    assert rule("loss.alpha", 0.5, ours=False).accepts(7)
    assert rule("loss.beta", 1, ours=False).accepts(1.5)
    assert not rule("loss.beta", 1, ours=False).accepts("a")


def test_every_rule_can_say_what_it_wants() -> None:
    assert all(each.says() for each in RULES.values())


def test_what_is_read_here_has_its_rule_beside_a_class_of_a_users_own_too() -> None:
    assert rule("teacher.weights", "train", ours=False).accepts(None)
    assert not rule("student.timesteps", 4, ours=False).accepts(0)
    assert rule("teacher.depth", 4, ours=False).accepts(0)
