"""The GPU check: what its lines, its exit code and its processes do, and all of it in small on a CPU."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_check.comparison import Case, Results, compare, gap
from benchmarks.gpu_check.lines import Line, Report, exit_code, read
from benchmarks.gpu_check.packages import NEEDED, told
from benchmarks.gpu_check.page import summary, write
from benchmarks.gpu_check.parts import COMPARING, SLOWER, TIMING, Part, run, run_all

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Script(Part):
    """A part that is a few lines of Python."""

    text: str = ""

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-c", self.text]


def says(what: str) -> str:
    """Python that reports a line as a part does."""
    line = {"part": "p", "what": what, "state": "pass"}
    return f"import sys, json; open(sys.argv[1], 'a').write(json.dumps({line!r}) + chr(10))"


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (["pass", "goal missed", "measured", "not measured"], 0),
        (["pass", "fail"], 1),
        ([], 1),
    ],
)
def test_only_a_failed_line_or_none_at_all_fails_the_check(states: list[str], code: int) -> None:
    assert exit_code(Line("p", "w", state) for state in states) == code  # type: ignore[arg-type]


def test_lines_are_judged_by_what_is_allowed_and_by_their_goals(tmp_path: Path) -> None:
    report = Report("p", tmp_path / "p.jsonl")
    report.equal("close", 0.5, 1.0)
    report.equal("far", 2.0, 1.0)
    report.equal("no number", float("nan"), 1.0)
    report.figure("slow", 1.4, "of the floor", most=1.3)
    report.figure("fast", 3.0, "times", least=2.5)
    report.figure("as it is", 3.0, "ms")
    Report("p", tmp_path / "p.jsonl", judged=False).figure("in small", 1.4, "of the floor", most=1.3)
    states = [line.state for line in read(tmp_path / "p.jsonl")]
    assert states == ["pass", "fail", "fail", "goal missed", "pass", "measured", "measured"]


def test_each_part_survives_that_another_breaks_or_is_cut_off_and_keeps_what_it_found(tmp_path: Path) -> None:
    begin = time.monotonic()
    parts = [
        Script("breaks", 60, says("before") + "; raise RuntimeError('no such kernel')"),
        Script("hangs", 4 / SLOWER, says("early") + "; import time; time.sleep(600)"),
        Script("works", 60, says("after")),
    ]
    lines = run_all("cpu", tmp_path, parts[:2], parts[2:])
    assert time.monotonic() - begin < 300
    assert [(line.what, line.state) for line in lines] == [
        ("before", "pass"),
        ("the part ran to its end", "fail"),
        ("early", "pass"),
        ("the part ran to its end", "fail"),
        ("after", "pass"),
    ]
    assert "RuntimeError: no such kernel" in lines[1].note
    assert "cut off after 4 s" in lines[3].note
    assert exit_code(lines) == 1


def test_a_second_run_does_not_count_the_lines_of_the_first(tmp_path: Path) -> None:
    part = Script("part", 60, says("once"))
    assert run(part, "cpu", tmp_path) == run(part, "cpu", tmp_path) == [Line("p", "once", "pass")]


def test_all_limits_together_are_under_nine_minutes() -> None:
    side_by_side = max(part.seconds for part in COMPARING)
    assert side_by_side + sum(part.seconds for part in TIMING) < 9 * 60
    for part in (*COMPARING, *TIMING):
        assert (ROOT / "benchmarks" / "gpu_check" / f"{part.name}.py").exists()


def test_the_page_and_the_file_hold_every_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [Line("step", "bf16", "goal missed", "7 ms", "<= 6 ms"), Line("resume", "bits", "fail", note="[0] & <b>")]
    write(lines, {"gpu": "none"}, tmp_path)
    kept = json.loads((tmp_path / "gpu_check.json").read_text())
    assert [Line(**line) for line in kept["lines"]] == lines
    assert kept["summary"] == summary(lines) == "1 fail, 1 goal missed"
    page = (tmp_path / "gpu_check.html").read_text()
    assert "&lt;= 6 ms" in page
    assert "[0] &amp; &lt;b&gt;" in page
    assert "goal missed" in capsys.readouterr().out


def test_missing_packages_are_one_list_for_pip() -> None:
    text = told(["rich", "safetensors"])
    assert "pip download --no-deps --dest wheels rich safetensors" in text
    assert "does not have: rich safetensors\n" in text


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """The packages that all parts of the check import, together."""
    names = [part.name for part in (*COMPARING, *TIMING)]
    script = (
        "import sys\nimport benchmarks.gpu_check.parts\n"
        + "".join(f"import benchmarks.gpu_check.{name}\n" for name in names)
        + "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name.lower().replace("-", "_") for name in done.stdout.split()}


def test_the_list_holds_what_is_imported_without_what_torch_and_python_bring(imported: set[str]) -> None:
    """Against the packages of the modules that a training imports, where these say that they need them."""
    required = {
        re.split(r"[^\w.-]", requirement)[0].lower().replace("-", "_").replace("pyyaml", "yaml")
        for package in ("lightning", "torchmetrics", "rich", "safetensors", "lightning-utilities")
        for requirement in requires(package) or []
        if "extra ==" not in requirement
    }
    assert required & imported <= set(NEEDED)


def test_a_wrong_gradient_and_a_case_that_breaks_fail_their_group_and_are_named(tmp_path: Path) -> None:
    def agrees(backend: str, dtype: torch.dtype) -> Results:
        return Results(torch.ones(4, dtype=dtype), [torch.ones(3)])

    def differs(backend: str, dtype: torch.dtype) -> Results:
        return Results(torch.ones(4, dtype=dtype), [torch.ones(3) + (1e-3 if backend == "triton" else 0.0)])

    def breaks(backend: str, dtype: torch.dtype) -> Results:
        raise RuntimeError("out of registers")

    report = Report("p", tmp_path / "p.jsonl")
    compare(report, "fine", [Case("a", agrees)])
    compare(report, "wrong", [Case("a", agrees), Case("b", differs)])
    compare(report, "broken", [Case("c", breaks), Case("a", agrees)])
    fine, wrong, broken = read(tmp_path / "p.jsonl")
    assert [fine.state, wrong.state, broken.state] == ["pass", "fail", "fail"]
    assert wrong.note.startswith("b: 10.0 times")
    assert "out of registers" in broken.note


def test_the_gap_is_relative_and_infinite_for_what_is_no_number() -> None:
    assert gap(torch.tensor([3.0, 4.4]), torch.tensor([3.0, 4.0])) == pytest.approx(0.08)
    assert gap(torch.tensor([float("nan")]), torch.ones(1)) == float("inf")


def test_the_check_imports_none_of_the_command_lines_packages(imported: set[str]) -> None:
    assert {"torch", "lightning", "torchmetrics"} <= imported
    assert not {"hydra", "omegaconf", "pydantic", "wandb", "sklearn", "jinja2"} & imported


@pytest.mark.slow
def test_all_of_it_runs_in_small_on_a_cpu(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    environment = {**os.environ, "CHECK_DEVICE": "cpu", "OUT": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu_check"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = json.loads((tmp_path / "gpu_check.json").read_text())["lines"]
    assert {line["part"] for line in lines} == {part.name for part in (*COMPARING, *TIMING)}
    assert not [line for line in lines if line["state"] in ("fail", "goal missed")]
