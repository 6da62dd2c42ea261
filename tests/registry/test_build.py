"""Objects from a config: what is said of one that cannot be made."""

from pathlib import Path

import pytest

from tser_lightning.errors import UsageError
from tser_lightning.models import relu
from tser_lightning.registry.build import build_network, build_student, instantiate
from tser_lightning.registry.trust import trust


def test_a_function_that_is_the_object_itself_is_told_to_be_a_class(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "losses_as_functions.py").write_text("def mine(student_TBC, teacher_BC, labels_B):\n    return 0\n")
    monkeypatch.syspath_prepend(folder)
    trust("losses_as_functions")

    with pytest.raises(UsageError) as told:
        instantiate({"_target_": "losses_as_functions.mine"})

    assert "mine() missing 3 required positional arguments" in told.value.what
    assert "returns the object" in told.value.why
    assert "a class" in told.value.fix


def test_a_network_without_the_arguments_of_a_run_is_told_which_it_is_given(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "nets_of_ones_own.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self, width=8):\n        super().__init__()\n"
    )
    monkeypatch.syspath_prepend(folder)
    trust("nets_of_ones_own")

    with pytest.raises(UsageError, match="Net cannot be made: it takes no num_classes") as told:
        build_network(
            {"_target_": "nets_of_ones_own.Net"},
            num_classes=3,
            in_channels=1,
            activation=relu,
            norm={"_target_": "torch.nn.BatchNorm2d"},
        )

    assert "def __init__(self, num_classes, in_channels, activation, norm)" in told.value.fix


def test_a_function_that_returns_no_network_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "text_nets.py").write_text("def net(**_):\n    return 'a network'\n")
    monkeypatch.syspath_prepend(folder)
    trust("text_nets")
    config = {
        "student": {"_target_": "text_nets.net", "timesteps": 2},
        "neuron": {"_target_": "tser_lightning.neurons.LIF"},
        "norm": {"_target_": "torch.nn.BatchNorm2d"},
    }
    with pytest.raises(UsageError):
        build_student(config, num_classes=3, in_channels=1)


@pytest.mark.parametrize(
    ("name", "what", "fix"),
    [
        (
            "Breaks",
            "broken_nets.Breaks fails while it is made: RuntimeError: no driver (broken_nets.py, line 6)",
            ".cuda()",
        ),
        ("Lazy", "broken_nets.Lazy has parameters without a size: layer.weight, layer.bias", "in place of Lazy"),
        ("number", "broken_nets.number is of type int, neither a class nor a function", "in broken_nets"),
    ],
)
def test_a_network_that_cannot_be_made_is_told_why(
    name: str, what: str, fix: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "broken_nets.py").write_text(
        "from torch import nn\nnumber = 5\n"
        "class Breaks(nn.Module):\n    def __init__(self, **_):\n        super().__init__()\n"
        "        raise RuntimeError('no driver')\n"
        "class Lazy(nn.Module):\n    def __init__(self, **_):\n        super().__init__()\n"
        "        self.layer = nn.LazyLinear(3)\n"
    )
    monkeypatch.syspath_prepend(folder)
    trust("broken_nets")

    with pytest.raises(UsageError) as told:
        build_network(
            {"_target_": f"broken_nets.{name}"},
            num_classes=3,
            in_channels=1,
            activation=relu,
            norm={"_target_": "torch.nn.BatchNorm2d"},
        )

    assert told.value.what == what
    assert fix in told.value.fix
