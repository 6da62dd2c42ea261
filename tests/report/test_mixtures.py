import json
from collections.abc import Callable
from pathlib import Path

from tser_lightning.report.cells import compare_methods
from tser_lightning.report.collect import collect
from tser_lightning.report.grid import make_grid
from tser_lightning.report.table import difference

Build = Callable[..., Path]


def of_another(path: Path, commit: str = "f" * 40, torch: str = "2.15.0", changed: bool = False) -> None:
    """Make a run one of another commit or version."""
    info = json.loads((path / "run.json").read_text())
    info["git"], info["versions"] = {"commit": commit, "changed": changed}, {**info["versions"], "torch": torch}
    (path / "run.json").write_text(json.dumps(info))


def test_runs_of_one_origin_are_no_mixture(runs: Path) -> None:
    comparisons = compare_methods(make_grid(collect(runs / "*")))
    assert comparisons.warnings == ()
    assert all(not cell.unlike for cell in comparisons.cells.values())


def test_other_commits_and_versions_are_said_first_and_marked_where_they_are_compared(
    build: Build, tmp_path: Path
) -> None:
    for loss in ("vanilla_kd", "ts", "tser"):
        for seed in (1, 2):
            path = build(loss, seed)
            if loss == "tser":
                of_another(path, torch="2.11.0", changed=True)
    comparisons = compare_methods(make_grid(collect(tmp_path / "runs" / "*")))
    said = " ".join(comparisons.warnings)
    assert "Runs of more than one commit: 0123456789 (4), ffffffffff with changes (2)" in said
    assert "Runs of more than one version of torch: 2.15.0 (4), 2.11.0 (2)" in said
    assert "2 runs are of code with changes" in said
    cells = {str(row): cell for (row, _), cell in comparisons.cells.items()}
    assert cells["tser"].unlike == ("commit", "version of torch")
    assert difference(cells["tser"]).endswith("\N{DAGGER}")
    assert not difference(cells["ts"]).endswith("\N{DAGGER}")


def test_debug_runs_and_other_epochs_are_said_and_not_compared(build: Build, tmp_path: Path) -> None:
    build("vanilla_kd", 1)
    build("vanilla_kd", 2)
    build("tser", 1, debug="step")
    build("tser", 2, **{"trainer.epochs": 5})
    comparisons = compare_methods(make_grid(collect(tmp_path / "runs" / "*")))
    said = " ".join(comparisons.warnings)
    assert "1 of 4 runs are debug runs" in said
    assert "differ in trainer.epochs (trainer.epochs=5, trainer.epochs=30)" in said
    differences = [cell.comparison.difference for cell in comparisons.cells.values() if cell.comparison]
    assert differences == [None, None]


def test_a_baseline_that_differs_in_more_than_the_loss_is_named(build: Build, tmp_path: Path) -> None:
    for seed in (1, 2):
        build("vanilla_kd", seed, neuron="lif")
        build("tser", seed, neuron="lif")
        build("tser", seed, neuron="plif")
    (said,) = compare_methods(make_grid(collect(tmp_path / "runs" / "*"))).warnings
    assert said == (
        "tser neuron=plif is compared with vanilla_kd neuron=lif, which differs in more than the loss: "
        "neuron is plif, there lif."
    )
