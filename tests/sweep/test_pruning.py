import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tser_lightning.cli.main import main
from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import Run, compose_run
from tser_lightning.errors import Pruned
from tser_lightning.records.decisions import Decision, read_decisions, write_decisions
from tser_lightning.records.sweep_record import SWEEP_VARIABLE, AskedRun, SweepRecord, write_sweep
from tser_lightning.report.collect import read_run
from tser_lightning.tasks.competition import Competition

Refused = Callable[..., list[tuple[str, str, str]]]
ASHA = {"_target_": "tser_lightning.training.pruning.ASHA", "min_epochs": 2, "eta": 2}
TINY = ["debug=step", "teacher.weights=null", "machine.runs_dir=records", "logging.wandb.mode=disabled"]


def sweep_in(folder: Path, curves: dict[tuple[str, int], list[float]]) -> SweepRecord:
    """A sweep over losses and seeds whose runs have these validation accuracies so far."""
    asked = []
    for (loss, seed), accuracies in curves.items():
        home = folder / "records" / f"{loss}-{seed}"
        home.mkdir(parents=True)
        rows = [f"{epoch},{accuracy}" for epoch, accuracy in enumerate(accuracies)]
        (home / "metrics.csv").write_text("\n".join(["epoch,val/acc", *rows]) + "\n")
        asked.append(AskedRun(home.name, settings={"loss": loss, "seed": seed, "data": "digits"}))
    record = SweepRecord(folder / "records" / ".sweeps" / "now", asked)
    write_sweep(record.folder, asked)
    return record


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("selection=last", "prune=asha has nothing to go by with selection=last"),
        ("selection=paper", "prune=asha has nothing to go by with selection=paper"),
        ("data.validation=0", "prune=asha has nothing to go by with data.validation=0"),
        ("task=prepare", "prune=asha does nothing to task=prepare"),
    ],
)
def test_without_validation_there_is_nothing_to_go_by(refused: Refused, command: str, said: str) -> None:
    ((what, why, fix),) = refused("prune=asha", command)
    assert what == said
    assert "never on the test split" in why
    assert "prune=none" in fix


def test_one_run_alone_has_nobody_to_be_compared_with(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SWEEP_VARIABLE, raising=False)
    assert main([*TINY, "prune=median"]) == 2
    assert "prune=median is for the jobs of a sweep, and this is one run" in capsys.readouterr().err


def test_a_rule_names_no_run(compose: Callable[..., Run]) -> None:
    assert compose("prune=asha prune.eta=4").name == compose("prune=median").name == compose("").name


def test_seeds_of_a_method_share_what_was_decided_about_the_first(folder: Path) -> None:
    curves = {("ce", 1): [50.0, 60.0], ("tser", 1): [40.0], ("tser", 2): [45.0], ("ts", 1): [40.0]}
    sweep = sweep_in(folder, curves)
    assert Competition("tser-1", sweep, ASHA).stops(2, 55.0)
    assert Competition("tser-2", sweep, ASHA).stops(2, 99.0)  # a lucky seed does not stay alone
    assert not Competition("ts-1", sweep, ASHA).stops(2, 61.0)
    assert [each.stop for each in read_decisions(folder / "records" / "tser-2", ASHA)] == [True]


def test_what_was_decided_stays_though_the_others_have_changed(folder: Path) -> None:
    sweep = sweep_in(folder, {("ce", 1): [50.0, 60.0], ("tser", 1): [40.0]})
    assert Competition("tser-1", sweep, ASHA).stops(2, 55.0)
    (folder / "records" / "ce-1" / "metrics.csv").write_text("epoch,val/acc\n0,1.0\n1,1.0\n")
    assert Competition("tser-1", sweep, ASHA).stops(2, 55.0)
    with pytest.raises(Pruned, match=r"^55.00 % on validation is place 2 of 2, and 1 may go on$"):
        Competition("tser-1", sweep, ASHA).check()
    assert not Competition("tser-1", sweep, {**ASHA, "eta": 3}).stops(2, 55.0)  # another rule decides anew


def test_only_runs_on_the_same_data_and_of_the_same_length_are_compared(folder: Path) -> None:
    sweep = sweep_in(folder, {("ce", 1): [50.0, 60.0], ("tser", 1): [40.0]})
    for changed in ({"data": "cifar10"}, {"trainer.epochs": 9}, {"data.validation": 0.3}, {"experiment": "other"}):
        runs = [AskedRun(each.run, settings={**each.settings}) for each in sweep.runs]
        runs[0] = AskedRun(runs[0].run, settings={**runs[0].settings, **changed})
        (folder / "records" / "tser-1" / "pruning.json").unlink(missing_ok=True)
        assert not Competition("tser-1", SweepRecord(sweep.folder, runs), ASHA).stops(2, 1.0)


def test_a_job_is_pruned_says_so_and_goes_on_without_the_rule(
    folder: Path, configs: Configs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*TINY[2:], "data=synthetic", "data.train_images=8", "data.test_images=4", "data.validation=0.5"]
    words += ["data.batch_size=4", "trainer.epochs=3", "student.timesteps=2", "loss=ce", "teacher=none"]
    rule = ["prune=asha", "prune.min_epochs=2", "prune.eta=2"]
    run = compose_run([*words, *rule], configs=configs)
    better = AskedRun("better", settings={**run.settings, "loss": "tser"})
    (folder / "records" / "better").mkdir(parents=True)
    (folder / "records" / "better" / "metrics.csv").write_text("epoch,val/acc\n0,100\n1,101\n")
    sweep = folder / "records" / ".sweeps" / "now"
    write_sweep(sweep, [AskedRun(run.home.name, settings=run.settings), better])
    monkeypatch.setenv(SWEEP_VARIABLE, str(sweep))
    for _ in range(2):  # the same command decides the same
        assert main([*words, *rule]) == 0
        found = read_run(run.home)
        assert (found.status, found.reason.partition(":")[0]) == ("pruned", "pruned after epoch 2 of 3")
        assert "place 2 of 2, and 1 may go on" in found.reason
    assert main(["-m", *words, *rule]) == 0
    assert "1 pruned before (prune=none goes on), 0 to do" in capsys.readouterr().err
    assert main(words) == 0
    assert read_run(run.home).finished
    assert len(read_run(run.home).metrics["epoch"]) == 3
    assert not (run.home / "pruning.json").exists()


def test_the_file_of_a_decision_says_by_which_rule(folder: Path) -> None:
    decisions = [Decision(2, 55.0, False, "first"), Decision(4, 56.0, True, "last")]
    write_decisions(folder, ASHA, decisions)
    assert read_decisions(folder, ASHA) == decisions
    assert json.loads((folder / "pruning.json").read_text())["rule"] == ASHA
    (folder / "pruning.json").write_text('{"rule": ')
    assert read_decisions(folder, ASHA) == []
