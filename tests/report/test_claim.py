import csv
import io
import shutil
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from scipy import stats

from tser_lightning.errors import UsageError
from tser_lightning.report.claim import claim
from tser_lightning.report.collect import collect
from tser_lightning.report.export import claim_md, comparison_csv, results_csv
from tser_lightning.report.grid import make_grid
from tser_lightning.report.latex import claim_tex, table_tex
from tser_lightning.report.names import names_of

Build = Callable[..., Path]
LATEX = r"""\documentclass[twocolumn]{article}
\usepackage{booktabs}\usepackage{siunitx}\usepackage[margin=2cm]{geometry}
\begin{document} TABLES \end{document}
"""


def test_every_part_of_the_claim_has_mean_interval_and_paired_test(runs: Path) -> None:
    records = collect(runs / "*")
    rows = list(csv.DictReader(io.StringIO(comparison_csv(claim(make_grid(records))))))
    assert {row["measure"] for row in rows} == {
        "test/acc_t1",
        "test/acc_step_mean",
        "test/acc_step_std",
        "test/acc",
    }
    steps = {
        loss: [
            statistics.fmean(r.numbers[f"test/acc_step{t}"] for t in range(1, 5))
            for r in sorted(records, key=lambda r: r.seed or 0)
            if r.settings["loss"] == loss
        ]
        for loss in ("tser", "vanilla_kd")
    }
    (row,) = (row for row in rows if (row["measure"], row["method"]) == ("test/acc_step_mean", "tser"))
    test = stats.ttest_rel(steps["tser"], steps["vanilla_kd"])
    low, high = stats.t.interval(0.95, 2, statistics.fmean(steps["tser"]), stats.sem(steps["tser"]))
    assert float(row["mean"]) == pytest.approx(statistics.fmean(steps["tser"]))
    assert (float(row["low"]), float(row["high"])) == pytest.approx((low, high))
    assert float(row["p"]) == pytest.approx(float(test.pvalue))
    assert (row["n"], row["baseline"]) == ("3", "vanilla_kd")


def test_markdown_and_latex_print_the_claim(runs: Path) -> None:
    compared = claim(make_grid(collect(runs / "*")))
    mean = compared[1].measure.printed(
        next(cell.summary.mean for (row, _), cell in compared[1].cells.items() if str(row) == "tser" and cell.summary)
    )
    assert mean in next(line for line in claim_md(compared).splitlines() if line.startswith("| tser"))
    latex = claim_tex(compared)
    line = next(line for line in latex.splitlines() if line.startswith("TSER"))
    assert f"{mean} +- " in line
    assert r"\toprule" in latex
    assert "Vanilla KD" in latex
    assert "best validation accuracy" in latex.partition(r"\caption")[2]
    assert "3 seeds" in latex.partition(r"\caption")[2] or "2 to 3 seeds" in latex


def test_a_swept_setting_is_in_every_line_of_the_csv_also_at_its_default(build: Build, tmp_path: Path) -> None:
    build("tser", 1)
    build("tser", 1, **{"loss.lam": 0.1})
    build("ce", 1)
    lines = list(csv.DictReader(io.StringIO(results_csv(collect(tmp_path / "runs" / "*")))))
    found = {(line["loss"], line["loss.lam"]) for line in lines}
    assert found == {("tser", "0.01"), ("tser", "0.1"), ("ce", "")}


def test_names_of_ones_own_are_written_as_given_and_a_file_of_something_else_is_refused(
    runs: Path, tmp_path: Path
) -> None:
    file = tmp_path / "names.yaml"
    file.write_text("tser: 'Ours ($\\lambda$) 5%'\n")
    latex = claim_tex(claim(make_grid(collect(runs / "*")), names=names_of(file)))
    assert r"Ours ($\lambda$) 5\% &" in latex
    file.write_text("- tser\n")
    with pytest.raises(UsageError, match="holds no names"):
        names_of(file)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no LaTeX here")
def test_latex_takes_the_tables_and_they_fit_a_column_and_a_page(runs: Path, tmp_path: Path) -> None:
    compared = claim(make_grid(collect(runs / "*")))
    _set(tmp_path, table_tex(compared[-1]) + "\n" + claim_tex(compared))


def test_latex_fits_three_settings_of_unlike_seeds_into_a_page(build: Build, tmp_path: Path) -> None:
    for epochs, seeds in ((12, 1), (25, 2), (150, 3)):
        for loss in ("vanilla_kd", "tser"):
            for seed in range(seeds):
                build(loss, seed, **{"trainer.epochs": epochs})
    compared = claim(make_grid(collect(tmp_path / "runs" / "*")))
    text = table_tex(compared[-1])
    assert r"\shortstack{Digits, ResNet (small),\\{}$T$ = 4, epochs = 12}" in text
    assert "retain-zero-uncertainty" in text  # siunitx prints 98.61 +- 0.00 as 98.61 otherwise
    if shutil.which("pdflatex") is not None:
        _set(tmp_path, text + "\n" + claim_tex(compared))


def _set(tmp_path: Path, tables: str) -> None:
    text = LATEX.replace("TABLES", tables)
    (tmp_path / "paper.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "siunitx.sty' not found" in ended.stdout or "booktabs.sty' not found" in ended.stdout:
        pytest.skip("LaTeX has no siunitx here")
    assert ended.returncode == 0, ended.stdout[-2000:]
    assert "Overfull" not in ended.stdout
