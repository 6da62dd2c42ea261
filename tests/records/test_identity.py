import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tser_lightning.records.identity import identity, matters, run_name

KEYS = st.text("abcdefgh_", min_size=1, max_size=6)
VALUES = (
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
TREES = st.dictionaries(
    KEYS, st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))
)
OVERRIDES = st.lists(st.builds("{}={}".format, KEYS, st.text(max_size=40)), unique=True, max_size=12)


def backwards(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: backwards(tree[key]) for key in reversed(tree)}
    return [backwards(item) for item in tree] if isinstance(tree, list) else tree


def test_a_known_value() -> None:
    # printf '{"loss":{"tau":5},"seed":1}' | sha256sum
    assert identity({"seed": 1, "loss": {"tau": 5.0}, "machine": {"devices": 8}}) == "e20a2f97"


@given(TREES)
def test_the_order_of_keys_does_not_matter(tree: dict[str, Any]) -> None:
    assert identity(tree) == identity(backwards(tree))


@given(TREES, KEYS, VALUES, VALUES)
def test_another_value_is_another_run(tree: dict[str, Any], key: str, one: Any, other: Any) -> None:
    same = type(one) is type(other) and one == other
    numbers = not isinstance(one, bool | str | None) and not isinstance(other, bool | str | None) and one == other
    assert (identity({**tree, key: one}) == identity({**tree, key: other})) == (same or numbers)


@given(TREES, TREES)
def test_where_a_run_is_done_does_not_matter(tree: dict[str, Any], machine: dict[str, Any]) -> None:
    about = {"machine": machine, "logging": machine, "force": True, "task": "teach", "run": "x", "hydra": machine}
    assert identity({**tree, "data": {"name": "a"}}) == identity({**tree, **about, "data": {"name": "a", "root": "/b"}})


def test_a_setting_that_came_later_leaves_the_runs_from_before_their_names() -> None:
    def named(target: str, **augment: object) -> str:
        return identity({"data": {"_target_": target, "augment": {"rand_ops": 1, **augment}}})

    ours = "tser_lightning.data.Digits"
    assert named(ours) == named(ours, rand_from="timm") != named(ours, rand_from="spikformer")
    assert named("my_data.Set") != named("my_data.Set", rand_from="timm")


def test_the_batch_size_of_evaluation_does_not_matter_and_names_stay_what_they_were() -> None:
    def named(size: int, kind: str = "tser_lightning.data.Digits") -> str:
        return identity({"data": {"_target_": kind, "eval_batch_size": size}, "seed": 1})

    # printf '{"data":{"_target_":"tser_lightning.data.Digits","eval_batch_size":500},"seed":1}' | sha256sum
    assert named(500) == named(7) == "8f5b9024"
    assert (
        named(1, "my_data.Set") == named(2, "my_data.Set") == identity({"data": {"_target_": "my_data.Set"}, "seed": 1})
    )


def test_only_whole_names_are_left_out() -> None:
    assert not matters("machine.workers")
    assert not matters("data.root")
    assert matters("machinery")
    assert matters("data.root_of_all")
    assert matters("student.run")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_without_a_canonical_form_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        identity({"a": number})


def test_a_name_can_be_read() -> None:
    overrides = ["seed=2", "loss=tser", "loss.lam=0.1", "student.timesteps=2", "data.shape=[3,32,32]"]
    assert (
        run_name("digits", overrides, "1a2b3c4d")
        == "digits-loss_tser-lam_0.1-seed_2-shape_3_32_32-timesteps_2-1a2b3c4d"
    )


@given(st.text(max_size=80), OVERRIDES, st.randoms())
def test_names_are_file_names_whatever_comes(experiment: str, overrides: list[str], random: Any) -> None:
    name = run_name(experiment, overrides, "1a2b3c4d")
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*-1a2b3c4d", name)
    assert len(name) < 120
    shuffled = list(overrides)
    random.shuffle(shuffled)
    assert run_name(experiment, shuffled, "1a2b3c4d") == name
