import torch
from hypothesis import given
from hypothesis import strategies as st

from tser_lightning.data.split import stratified


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0, 1))
def test_each_class_gives_its_share_within_one_image(classes: list[int], fraction: float) -> None:
    labels = torch.tensor(classes)
    count = round(len(classes) * fraction)

    chosen = stratified(labels, count)

    assert chosen.sum() == count
    for label in set(classes):
        of_class = labels == label
        assert abs(chosen[of_class].sum() - of_class.sum() * count / len(classes)) < 1


def test_choice_inside_a_class_is_not_by_place() -> None:
    chosen = stratified(torch.zeros(1000, dtype=torch.int64), 100).nonzero().flatten()

    assert len(chosen.diff().unique()) > 10


def test_the_rule_never_changes() -> None:
    # Written down from the first version: another choice would make old results incomparable without a word.
    assert stratified(torch.arange(20) % 2, 6).nonzero().flatten().tolist() == [3, 4, 6, 14, 17, 19]
