from typing import Any

import pytest

from tser_lightning.cli.rules import RULES, rule


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


def test_choices_are_read_from_the_comment() -> None:
    known = rule("neuron.reset", "hard", about="after a spike: hard (to 0) | soft (minus v_threshold)")
    assert known.says() == "one of hard, soft"
    assert rule("x.precision", "32-true", about="32-true | bf16-mixed; membranes stay float32").accepts("bf16-mixed")
    assert rule("x.auto", None, about="cifar10 | null").accepts(None)
    assert rule("x.weights", "train", about="train (now) | a file | null").accepts("any text")


def test_a_class_of_ones_own_has_types_but_no_ranges() -> None:
    assert not rule("loss.alpha", 0.5).accepts(7)
    assert rule("loss.alpha", 0.5, ours=False).accepts(7)
    assert rule("loss.beta", 1, ours=False).accepts(1.5)
    assert not rule("loss.beta", 1, ours=False).accepts("a")


def test_every_rule_can_say_what_it_wants() -> None:
    assert all(each.says() for each in RULES.values())
