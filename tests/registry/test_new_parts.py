"""A new loss, neuron, norm, architecture, data set, measure, task: own files alone get them used, helped, documented.

The files are written into a copy of the package, as somebody who adds them writes them; nothing else of it changes.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent

FILES = {
    "tser_lightning/losses/later_steps.py": """
import torch.nn.functional as F
from torch import nn

class LaterSteps(nn.Module):
    def __init__(self, first=2, weight=1.0):
        super().__init__()
        self.first, self.weight = first, weight

    def forward(self, student_TBC, teacher_BC, labels_B):
        return self.weight * F.cross_entropy(student_TBC[self.first - 1 :].mean(0), labels_B)
""",
    "tser_lightning/neurons/memoryless.py": """
from tser_lightning.neurons import Neuron, fire

class Memoryless(Neuron):
    def __init__(self, channels=None, *, v_threshold=1.0, slope=4.0):
        super().__init__()
        self.v_threshold, self.slope = v_threshold, slope

    def run(self, currents_TB, state):
        return fire(currents_TB - self.v_threshold, "sigmoid", self.slope), None
""",
    "tser_lightning/models/scaled_norm.py": """
from torch import nn

class ScaledNorm(nn.BatchNorm2d):
    def __init__(self, channels, gain=2.0):
        super().__init__(channels)
        self.gain = gain

    def forward(self, x):
        return self.gain * super().forward(x)
""",
    "tser_lightning/models/one_layer.py": """
from torch import nn

class OneLayer(nn.Module):
    def __init__(self, num_classes, in_channels, activation, norm, hidden=4):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(in_channels, hidden, 3), norm(hidden), activation(hidden)
        self.fc = nn.Linear(hidden, num_classes)

    def forward(self, x):
        return self.fc(self.act(self.norm(self.conv(x))).mean((2, 3)))
""",
    "tser_lightning/data/stripes.py": """
import torch

from tser_lightning.data import ArrayData

class Stripes(ArrayData):
    name = "stripes"

    def __init__(self, num_classes, shape, *, period, **settings):
        super().__init__(num_classes, shape, mean=[0.5], std=[0.5], **settings)
        self.classes, self.period = ("even", "odd"), period

    def arrays(self):
        labels = torch.arange(40) % 2
        images_BHWC = (torch.arange(8)[:, None] % self.period + labels[:, None, None, None]) * 20
        images_BHWC = images_BHWC.expand(40, 8, 8, 1).byte().contiguous()
        return {f"{part}_{kind}": {"images": images_BHWC, "labels": labels}[kind]
                for part in ("train", "test") for kind in ("images", "labels")}
""",
    "tser_lightning/measure/margin.py": """
from tser_lightning.measure.per_image import per_image

@per_image()
def margin(student_TBC, teacher_BC, labels_B):
    first_B2 = student_TBC.mean(0).topk(2).values
    return {"margin": (first_B2[:, 0] - first_B2[:, 1]).float()}
""",
    "tser_lightning/records/measures/margin.py": """
from tser_lightning.records.measures.declaration import HIGHER, Measure

MEASURES = (
    Measure("test/margin", "margin of the first class", "logits", HIGHER, "to the second", "measure.margin"),
)
""",
    "tser_lightning/tasks/count.py": """
def count(run):
    return {"counted": run.config["count"]["what"]}
""",
    "tser_lightning/schema/new_parts.py": '''
from tser_lightning.schema.data import ImageSetSettings
from tser_lightning.schema.neuron import NeuronSettings
from tser_lightning.schema.setting import Count, NotNegative, Settings, TaskSettings, Text, about

class LaterStepsSettings(Settings, targets=("tser_lightning.losses.later_steps.LaterSteps",)):
    """Labels of later steps."""
    first: Count = about("first step that counts")
    weight: NotNegative = about("weight of the labels", default=1.0)

class MemorylessSettings(NeuronSettings, targets=("tser_lightning.neurons.memoryless.Memoryless",)):
    """No membrane."""
    slope: NotNegative = about("slope of the sigmoid")

class ScaledNormSettings(Settings, targets=("tser_lightning.models.scaled_norm.ScaledNorm",)):
    """Scaled."""
    gain: NotNegative = about("factor of its output")

class OneLayerSettings(Settings, targets=("tser_lightning.models.one_layer.OneLayer",)):
    """One layer."""
    hidden: Count = about("channels of the convolution")

class StripesSettings(ImageSetSettings, targets=("tser_lightning.data.stripes.Stripes",)):
    """Stripes."""
    period: Count = about("pixels between stripes")

class CountSettings(TaskSettings, group="count"):
    """Of `task=count`."""
    what: Text = about("what is counted")
''',
    "conf/loss/later_steps.yaml": "_target_: tser_lightning.losses.later_steps.LaterSteps\nfirst: 2\n",
    "conf/neuron/memoryless.yaml": (
        "_target_: tser_lightning.neurons.memoryless.Memoryless\nv_threshold: 0.5\nslope: 4.0\n"
    ),
    "conf/norm/scaled_norm.yaml": "_target_: tser_lightning.models.scaled_norm.ScaledNorm\ngain: 2.0\n",
    "conf/architecture/one_layer.yaml": (
        "_target_: tser_lightning.models.one_layer.OneLayer\nhidden: 4\nstudent:\n  timesteps: 2\n"
    ),
    "conf/data/stripes.yaml": """
_target_: tser_lightning.data.stripes.Stripes
num_classes: 2
shape: [1, 8, 8]
period: 3
validation: 0.5
batch_size: 10
eval_batch_size: 10
drop_last: true
""",
    "conf/task/count.yaml": "# @package _global_\n# Count\ntask: count\ncount:\n  what: all\n",
}
# The option, its setting, a misprint of each, and what it says of the setting.
PARTS = [
    ("loss=later_steps", "loss.first", "later_step", "fist", "first step that counts"),
    ("loss=later_steps", "loss.weight", "later_step", "wieght", "weight of the labels"),  # in no file
    ("neuron=memoryless", "neuron.slope", "memoriless", "slop", "slope of the sigmoid"),
    ("norm=scaled_norm", "norm.gain", "scaled_nrm", "gian", "factor of its output"),
    ("student=one_layer", "student.hidden", "one_laier", "hiden", "channels of the convolution"),
    ("data=stripes", "data.period", "stripe", "perod", "pixels between stripes"),
    ("task=count", "count.what", "cuont", "waht", "what is counted"),
]
CODES = {"help": 0, "option": 2, "name": 2, "value": 2}
PROGRAM = """
import contextlib, io, json, sys
from pathlib import Path
from tser_lightning.cli import reference
from tser_lightning.cli.main import main

def said(*argv):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(argv if argv[0] == "--help" else ["experiment=none", *argv])
    return code, out.getvalue(), err.getvalue()

parts = json.loads(sys.argv[1])
chosen = list(dict.fromkeys(part[0] for part in parts))
misspelt = [f"{option.partition('=')[0]}={wrong}" for option, _, wrong, _, _ in parts]
misnamed = [f"{setting.rpartition('.')[0]}.{wrong}=3" for _, setting, _, wrong, _ in parts]
found = {
    "reference": reference.reference(),
    "help": said("--help", *chosen),
    "option": said(*dict.fromkeys(misspelt)),
    "name": said(*chosen, *misnamed),
    "value": said(*chosen, *(f"{part[1]}=[1]" for part in parts)),
}
assert "torch" not in sys.modules

from tser_lightning.config.run import compose_run
from tser_lightning.tasks.run_task import run_task

count = compose_run(["task=count", "count.what=steps"])
found["count"] = run_task(count)
found["names"] = [count.name, compose_run([]).name]
chosen.remove("task=count")
chosen += ["teacher=none", "experiment=none", "debug=step", "logging.wandb.mode=disabled", "machine.accelerator=cpu"]
found["run"] = run_task(compose_run(chosen))
report = ["task=report", "runs=runs/*", "report.dir=report", "report.measure=test/margin"]
run_task(compose_run(report))
found["csv"] = Path("report/results.csv").read_text()
found["page"] = Path("report/report.html").read_text()
json.dump(found, open("found.json", "w"))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, work = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("work")
    for name in ("tser_lightning", "conf", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in FILES.items():
        (folder / path).write_text(text)
    places = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", PROGRAM, json.dumps(PARTS)]
    done = subprocess.run(command, cwd=work, env=places, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((work / "found.json").read_text())


@pytest.mark.parametrize(("option", "setting", "wrong_option", "wrong_name", "meaning"), PARTS)
def test_a_new_part_is_helped_checked_and_documented(
    option: str, setting: str, wrong_option: str, wrong_name: str, meaning: str, found: Any
) -> None:
    said = {name: "".join(found[name][1:]) for name in CODES}
    assert {name: found[name][0] for name in CODES} == CODES
    assert f"{setting}=" in said["help"]
    assert meaning in said["help"]
    assert f"{option.partition('=')[0]}={wrong_option}: there is no " in said["option"]
    assert f"try: {option}\n" in said["option"]
    assert f"{option} has " in said["name"]
    assert f"try: {setting}=3\n" in said["name"]
    assert f"{setting}: {meaning}; " in said["value"]
    assert f"`{setting if option == 'task=count' else setting.rpartition('.')[2]}` |" in found["reference"]
    assert f" | {meaning} |" in found["reference"]


def test_new_parts_are_used(found: Any) -> None:
    assert found["count"] == {"counted": "steps"}
    assert found["names"][0] == found["names"][1]  # a task's settings rename no run
    named = {name: found["run"][name] for name in ("loss", "neuron", "norm", "student", "data")}
    assert list(named.values()) == ["later_steps", "memoryless", "scaled_norm", "one_layer", "stripes"]
    assert found["run"]["test/acc_t2"] == found["run"]["test/acc"]


def test_a_new_measure_is_computed_and_reported(found: Any) -> None:
    assert found["run"]["test/margin"] >= 0
    assert "test/margin" in found["csv"].splitlines()[0]
    assert "margin of the first class in logits" in found["page"]
