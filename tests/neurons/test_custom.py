"""A neuron of one's own, named in a command."""

from pathlib import Path

import pytest

from tser_lightning.cli.main import main

NEURON = """
from tser_lightning.neurons import LIF

class Slow(LIF):
    def __init__(self, channels, decay=0.9):
        super().__init__(channels, decay=decay)
"""


def test_a_neuron_of_ones_own_trains_and_is_called_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_neurons.py").write_text(NEURON)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    words = ["neuron=custom", "neuron._target_=my_neurons.Slow", "+neuron.decay=0.8"]
    assert main([*words, "debug=step", "loss=ce", "teacher=none", "logging.wandb.mode=disabled"]) == 0
    (home,) = tmp_path.glob("runs/digits-*neuron_Slow*")
    assert (home / "result.json").exists()
