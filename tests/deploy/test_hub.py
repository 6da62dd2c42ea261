"""A student to hand over: the folder, its model card, and the way to the Hub and back, on a Hub of its own."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import tser_lightning as tl
from tser_lightning.errors import RunError, UsageError
from tser_lightning.report.model_card import model_card

huggingface_hub = pytest.importorskip("huggingface_hub")
Command = Callable[..., dict[str, Any]]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SETTINGS = ["loss=ce", "teacher=none", "trainer.epochs=1", "student.widths=[4,8]", "student.timesteps=2"]


@pytest.fixture(scope="module")
def home(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work") / "runs"
    command(*SETTINGS, f"machine.runs_dir={folder}")
    (found,) = folder.glob("digits-*")
    command("task=predict", f"run={found}", "exit.max_loss=50")
    return found


def test_no_folder_of_the_training_machine_is_in_the_card() -> None:
    card = {"student": {"timesteps": 1}, "num_classes": 2, "shape": [1, 8, 8], "mean": [0.5], "std": [0.5]}
    result = {"loss": "ce", "student.weights": "/home/ant/run/a.pth", "data.path": "/data/bees", "test/acc": 50.0}
    text = model_card("m", "DIR", card, result, None, {}, None)
    assert "student.weights: a.pth" in text
    assert "data.path: bees" in text
    assert "/home" not in text
    assert "/data/" not in text


def answers(student: Any) -> torch.Tensor:
    images_BCHW = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return student(images_BCHW)  # type: ignore[no-any-return]


def test_what_is_handed_over_is_loaded_from_its_folder_and_its_card_says_what_the_run_says(
    command: Command, home: Path
) -> None:
    result = command("task=export", f"run={home}", "format=hub", "export.license=mit")
    folder = Path(result["folder"])
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "student.json", "student.safetensors"]
    student = tl.load_student(folder)
    assert torch.equal(answers(student), answers(tl.load_student(home)))
    assert student.exit is not None
    numbers = json.loads((home / "result.json").read_text())
    card = huggingface_hub.ModelCard.load(folder / "README.md")  # what the Hub's own library makes of it
    assert (card.data.license, card.data.library_name) == ("mit", "tser-lightning")
    (measured,) = card.data.eval_results
    assert (measured.metric_type, measured.metric_value) == ("accuracy", numbers["test/acc"])
    assert (measured.dataset_name, measured.task_type) == ("digits", "image-classification")
    for t in (1, 2):
        row = f"| {t} | {numbers[f'test/acc_t{t}']:.2f} % | {numbers[f'test/acc_step{t}']:.2f} % |"
        assert row in card.text
    assert f"| energy | {numbers['test/energy_mj']:.3g} mJ |" in card.text
    assert "0.9 pJ for an accumulation" in " ".join(card.text.split())
    measured_exit = json.loads((home / "exit.json").read_text())
    assert f"{measured_exit['accuracy']:.2f} % at {measured_exit['mean_steps']:.2f} steps" in card.text
    assert json.loads((folder / "student.json").read_text())["sha256"] in card.text
    assert "Teacher: not measured" in card.text


def test_the_lines_of_the_card_load_the_student(
    command: Command, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command("task=export", f"run={home}", "format=hub", f"output={tmp_path}")
    text = (tmp_path / "README.md").read_text()
    assert "Not stated." in text
    assert "license:" not in text
    (lines,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in lines.splitlines() if line]) == 4
    Image.new("L", (8, 8)).save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(lines.replace("FOLDER", "."))
    name, probability, steps = capsys.readouterr().out.split()
    assert name in tl.load_student(home).classes
    assert 0.1 <= float(re.findall(r"[\d.]+", probability)[0]) <= 1
    assert "tensor" in steps


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as a push and a pull ask for."""

    files: dict[str, bytes] = {}  # noqa: RUF012

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            told = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in asked]
            self._json({"files": told})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._json(
                {"commitUrl": f"https://huggingface.co/ant/bee/commit/{COMMIT}", "commitOid": COMMIT, "success": True}
            )
        else:
            self._json({"url": "https://huggingface.co/ant/bee", "errors": [], "warnings": []})

    def do_GET(self) -> None:
        if "/resolve/" in self.path:
            content = self.files[self.path.rpartition("/")[2]]
            etag = hashlib.sha1(content).hexdigest()
            self._send(content, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'})
        elif "/tree/" in self.path:
            self._json([{"type": "file", "path": n, "size": len(c), "oid": "0"} for n, c in self.files.items()])
        else:
            siblings = [{"rfilename": name, "size": len(content)} for name, content in self.files.items()]
            self._json({"id": "ant/bee", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []})

    do_HEAD = do_GET  # noqa: N815

    def _json(self, content: Any) -> None:
        self._send(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Hub at an address of this machine; gives the cache that its library uses."""
    Hub.files = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    constants = huggingface_hub.constants
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", endpoint)
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    yield tmp_path / "cache"
    server.shutdown()


def test_a_student_goes_to_the_hub_and_comes_back_and_stays_without_a_network(
    command: Command, home: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("task=export", f"run={home}", "format=hub", "output=hf://ant/bee", "export.license=mit")
    assert sorted(Hub.files) == ["README.md", "student.json", "student.safetensors"]
    assert 'load_student("hf://ant/bee")' in Hub.files["README.md"].decode()
    assert Hub.files["student.safetensors"] == (home / "student.safetensors").read_bytes()
    expected = answers(tl.load_student(home))
    assert torch.equal(answers(tl.load_student("hf://ant/bee")), expected)
    assert (hub / "models--ant--bee" / "snapshots" / COMMIT / "student.json").is_file()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    Hub.files = {}
    assert torch.equal(answers(tl.load_student("hf://ant/bee@main")), expected)
    with pytest.raises(UsageError, match="hf://ant/cow gives no student"):
        tl.load_student("hf://ant/cow")
    with pytest.raises(RunError, match="hf://ant/bee was not written"):
        command("task=export", f"run={home}", "format=hub", "output=hf://ant/bee")
