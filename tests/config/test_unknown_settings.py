"""What is advised in place of a setting that does not exist."""

from collections.abc import Callable

import pytest

from tser_lightning.config.run import Run
from tser_lightning.config.usage_errors import UsageErrors

Compose = Callable[..., Run]


@pytest.mark.parametrize("word", ["early_stopping=true", "trainer.early_stop=3", "trainer.patience=3"])
def test_early_stopping_is_advised_as_a_callback_that_composes(compose: Compose, word: str) -> None:
    with pytest.raises(UsageErrors) as caught:
        compose(word, check_data=False)
    run = compose(caught.value.mistakes[0].fix, check_data=False)
    assert run.config["callbacks"]["early_stopping"]["monitor"] == "val/acc"


def test_trackio_switched_on_is_advised_a_project(compose: Compose) -> None:
    with pytest.raises(UsageErrors) as caught:
        compose("logging.trackio=true", check_data=False)
    assert caught.value.mistakes[0].fix == "logging.trackio=tser"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("student=spikformer student.attention=pfa", "others would have it"),
        ("student=spikformer student.attention=foo", "but foo is not one of pfa, pfa_input, null"),
        ("loss=ce loss.lam=0.1", "tser and 2 others would have it"),
        ("neuron=if neuron.decay=0.3", "lif and 3 others would have it"),
    ],
)
def test_what_another_option_would_have_is_advised_as_it_composes(words: str, why: str, compose: Compose) -> None:
    with pytest.raises(UsageErrors, match=r"would have it") as caught:
        compose(words, check_data=False)
    assert caught.value.mistakes[0].why.endswith(why)
    compose(caught.value.mistakes[0].fix, check_data=False)
