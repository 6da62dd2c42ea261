"""What the library says of arguments becomes what a command says of settings; Python hears of arguments."""

import pytest

import tser_lightning as tl
from tser_lightning.config.translation import arguments_as_settings
from tser_lightning.errors import UsageError


def test_an_argument_is_named_as_the_setting_that_it_was() -> None:
    with pytest.raises(UsageError) as caught, arguments_as_settings("teacher", {"dim": 3, "heads": 2, "_target_": "x"}):
        raise UsageError("dim=3 cannot be divided by heads=2", "student.dim is another", "dim = 4 heads=2")
    error = caught.value
    assert error.what == "teacher.dim=3 cannot be divided by teacher.heads=2"
    assert (error.why, error.fix) == ("student.dim is another", "teacher.dim = 4 teacher.heads=2")


def test_python_hears_of_its_own_arguments() -> None:
    with pytest.raises(UsageError, match=r"^dim=100 cannot be divided by 8 and by heads=12"):
        tl.build_student("spikformer", dim=100, heads=12)
