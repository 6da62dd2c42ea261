"""Pruning in a sweep: a run is compared with the others by `prune=asha` or `prune=median`."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tser_lightning import operating_system
from tser_lightning.atomic_io import itself
from tser_lightning.config.run import Run
from tser_lightning.errors import Pruned, UsageError
from tser_lightning.records.decisions import Decision, read_decisions, stop_of, write_decisions
from tser_lightning.records.run_directory import RunDirectory
from tser_lightning.records.sweep_record import SWEEP_VARIABLE, AskedRun, SweepRecord, sweep_of

if TYPE_CHECKING:
    from tser_lightning.training.pruning import Curve, Method, Rule

ALIKE = ("experiment", "data", "trainer.epochs")  # accuracies of others, or after as many of more epochs, say nothing


class Competition:
    """The runs of a sweep that a pruning rule compares, read from their directories; the same under every launcher.

    Runs that differ in their seed alone are one method and share its fate: what was decided about the first of them at
    an epoch holds for all.

    Args:
        run: The name of the directory of the run that it is about.
        sweep: What was asked for.
        rule: The config group `prune`.
    """

    def __init__(self, run: str, sweep: SweepRecord, rule: Mapping[str, Any]) -> None:
        self._sweep, self._settings = sweep, rule
        self.home = sweep.runs_dir / run
        self._own = next(each for each in sweep.runs if each.run == run)

    def stops(self, epoch: int, accuracy: float) -> bool:
        """Decide whether the run stops after an epoch; a decision is kept and holds for all its seeds.

        Args:
            epoch: Number of epochs that are done.
            accuracy: Accuracy on validation images, in percent.
        """
        from tser_lightning.registry.build import instantiate

        rule: Rule = instantiate(self._settings)
        with self._one_at_a_time():
            before = read_decisions(self.home, self._settings)
            found = self._decided(epoch) or self._judged(rule, epoch, accuracy)
            if found is not None:
                made = Decision(epoch, accuracy, found.stop, found.why)
                write_decisions(self.home, self._settings, [*(each for each in before if each.epoch < epoch), made])
        return found is not None and found.stop

    def check(self) -> None:
        """Raise `Pruned` if the rule has stopped the run, in this or an earlier process."""
        if (stop := stop_of(self.home, self._settings)) is not None:
            raise Pruned(stop.why)

    def _decided(self, epoch: int) -> Decision | None:
        """Find what was decided about this run, or another seed of it, at an epoch."""
        homes = [self.home, *(self._sweep.runs_dir / each.run for each in self._sweep.runs if self._same_method(each))]
        known = (each for home in homes for each in read_decisions(home, self._settings) if each.epoch == epoch)
        return next(known, None)

    def _judged(self, rule: "Rule", epoch: int, accuracy: float) -> Any:
        curve = [*(point for point in _curve(self.home) if point[0] < epoch), (epoch, accuracy)]
        own: Method = [curve, *self._curves(each for each in self._sweep.runs if self._same_method(each))]
        others: dict[str, list[AskedRun]] = {}
        for each in self._sweep.runs:
            if _method(each) != _method(self._own) and _conditions(each) == _conditions(self._own):
                others.setdefault(_method(each), []).append(each)
        theirs = [self._curves(runs) for runs in others.values()]
        return rule.judge(own, theirs, epoch, curve[-2][0] if len(curve) > 1 else 0)

    def _same_method(self, other: AskedRun) -> bool:
        return other is not self._own and _method(other) == _method(self._own)

    def _curves(self, runs: Any) -> "list[Curve]":
        return [_curve(self._sweep.runs_dir / each.run) for each in runs]

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Hold a lock, so that no two runs of a sweep decide at once, each without the other's number."""
        with open(self._sweep.folder / ".pruning.lock", "w", opener=itself) as file:
            operating_system.lock(file, wait=True)
            yield


def _method(asked: AskedRun) -> str:
    return repr(sorted((key, repr(value)) for key, value in asked.settings.items() if key != "seed"))


def _conditions(asked: AskedRun) -> list[tuple[str, str]]:
    settings = asked.settings.items()
    return sorted((key, repr(value)) for key, value in settings if key in ALIKE or key.startswith("data."))


def _curve(home: Path) -> "Curve":
    try:
        rows = RunDirectory(home).metrics()
        return [(int(row["epoch"]) + 1, float(row["val/acc"])) for row in rows if row.get("val/acc")]
    except (OSError, ValueError, KeyError):
        return []


def competition_of(run: Run) -> Competition | None:
    """Find the sweep that a run is pruned in; None without a rule.

    Raises:
        UsageError: There is a rule, and no sweep.
    """
    rule = run.config["prune"]
    if not rule.get("_target_"):
        return None
    sweep = sweep_of(Path(os.environ.get(SWEEP_VARIABLE, "")))
    if sweep is None or run.home.name not in {each.run for each in sweep.runs}:
        raise UsageError(
            what=f"prune={run.choices['prune']} is for the jobs of a sweep, and this is one run",
            why="it ends a run early that is behind the others of its sweep",
            fix="-m and what is swept, or the command without prune=, which also goes on with a run that was pruned",
        )
    return Competition(run.home.name, sweep, rule)
