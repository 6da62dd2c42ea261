import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from rich.console import Console

from tser_lightning.errors import UsageError
from tser_lightning.records.dashboard import definition, workspace
from tser_lightning.records.measures import HIGHER, MEASURES, Measure
from tser_lightning.report.table import steps_table
from tser_lightning.report.write import write_report

Build = Callable[..., Path]

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Outline(HTMLParser):
    """Keeps what is open, every anchor and every address."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.needed: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self._attributes(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._attributes(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def _attributes(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in ("href", "src", "xlink:href"):
                self.addresses.append(str(value))
                if tag != "a":
                    self.needed.append(str(value))


def test_a_new_measure_is_one_declaration_and_shows_everywhere(build: Build, tmp_path: Path) -> None:
    for loss, margin in (("vanilla_kd", 0.25), ("tser", 0.5)):
        path = build(loss, 1) / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"test/margin": margin}))
    new = Measure("test/margin", "margin of the logits", "nats", HIGHER, "first minus second", "report.write", 3)
    MEASURES.append(replace(new, kind="certainty", brief=True))
    try:
        write_report(str(tmp_path / "runs" / "*"), tmp_path / "report", measure="test/margin")
        panels = json.dumps(definition(workspace("me/snn")))
        console = Console(record=True)
        console.print(steps_table([json.loads(path.read_text())]))
    finally:
        MEASURES.pop()
    page, markdown, latex, csv = (
        (tmp_path / "report" / name).read_text() for name in ("report.html", "table.md", "table.tex", "results.csv")
    )
    assert "margin of the logits in nats" in page
    assert "first minus second" in page
    assert "margin of the logits in nats" in markdown
    assert "**0.500**" in markdown
    assert "Margin of the logits in nats" in latex
    assert "test/margin" in csv.splitlines()[0].split(",")
    assert "test/margin" in panels
    assert "margin of the logits in nats" in console.export_text()


def test_the_report_is_one_page_that_needs_nothing_else(report: Path) -> None:
    text = (report / "report.html").read_text()
    outline = Outline()
    outline.feed(text)
    assert outline.open == []
    assert all(address.startswith(("#", "data:")) for address in outline.needed)
    files = [address for address in outline.addresses if not address.startswith(("#", "data:"))]
    assert {"results.csv", "claim.tex", "figures/any_time.pdf"} <= set(files)
    assert [address for address in files if not (report / unquote(address)).exists()] == []
    assert len([address for address in files if address.startswith("../runs/")]) == 15
    assert {address[1:] for address in outline.addresses if address.startswith("#")} <= set(outline.ids)
    assert len(outline.ids) == len(set(outline.ids))
    assert not re.search(r"@import|url\((?!#)", text)
    for anchor in ("summary", "figures", "tables", "selection", "provenance"):
        assert anchor in outline.ids


def test_the_page_says_what_the_files_say(report: Path) -> None:
    page = (report / "report.html").read_text()
    number = re.search(r"\| tser \| \*\*(.*?)\*\*", (report / "table.md").read_text())
    assert number is not None
    assert f'<span class="best">{number[1]}</span>' in page
    for said in ("0123456789", "2.15.0", "2 cores", "its term kl is the cause", "killed at epoch 4 of 30", "baseline"):
        assert said in page
    assert "selection=val: a validation split is cut" in page
    assert (report / "results.csv").read_text().count("\n") == 16
    assert r"\toprule" in (report / "table.tex").read_text()


def test_figures_come_as_png_and_svg_and_stand_in_the_page(report: Path) -> None:
    drawn = {file.stem for file in (report / "figures").glob("*.svg")}
    assert drawn == {file.stem for file in (report / "figures").glob("*.png")}
    assert drawn >= {"fig2_steps_digits_resnet_small_T_4", "any_time", "energy", "training_digits_resnet_small_T_4"}
    assert (report / "report.html").read_text().count("<svg") == len(drawn)


def test_what_runs_say_cannot_change_the_page(runs: Path, tmp_path: Path) -> None:
    failed = next(path for path in runs.glob("*ts_ce*") if not (path / "result.json").exists())
    (failed / "run.json").write_text((failed / "run.json").read_text().replace("the loss", "<script>alert(1)</script>"))
    write_report(runs / "*ts_*", tmp_path / "report")
    text = (tmp_path / "report" / "report.html").read_text()
    assert text.count("<script>") == 1  # our own, which sorts
    assert "&lt;script&gt;" in text


def test_the_same_runs_give_the_same_bytes(runs: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_report(runs / "*tser*", tmp_path / name)
    files = [file.relative_to(tmp_path / "a") for file in (tmp_path / "a").rglob("*") if file.is_file()]
    assert len(files) > 8
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_no_file_of_many_runs_is_read_twice_and_few_configs_at_all(
    build: Build, tmp_path: Path, opened: list[str]
) -> None:
    lams = [round(0.001 * number, 3) for number in range(1, 21)]
    for lam in lams:
        for seed in (1, 2):
            build("tser", seed, **{"loss.lam": lam})
    opened.clear()
    write_report(tmp_path / "runs" / "*", tmp_path / "report")
    for name in ("run.json", "result.json", "metrics.csv", "measures.json"):
        assert opened.count(name) <= 2 * len(lams), name
    assert opened.count("config.yaml") < 10  # what has no default of its own in result.json is asked of a few
    assert "log.txt" not in opened


def test_nothing_to_report_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run directory matches"):
        write_report(tmp_path / "runs" / "*", tmp_path / "report")


def test_the_table_is_imported_without_torch_and_matplotlib() -> None:
    code = "import sys, tser_lightning.report.table, tser_lightning.report.write; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "lightning", "matplotlib", "scipy", "sklearn"} & set(modules)


def test_what_a_killed_report_left_is_removed_and_parts_of_others_stay(build: Build, tmp_path: Path) -> None:
    build("tser", 1)
    out = tmp_path / "re'port [1]"
    (out / "figures").mkdir(parents=True)
    left = [out / ".report.html.99999999.part", out / "figures" / ".a.svg.99999999.part"]
    other = out / ".student.safetensors.99999999.part"
    for part in (*left, other):
        part.touch()
    write_report(tmp_path / "runs" / "*", out)
    assert not any(part.exists() for part in left)
    assert other.exists()
