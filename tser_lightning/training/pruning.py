"""Rules that end a training early because others of its sweep are better, by the accuracy on validation images.

A method is what several seeds have in common. Methods are compared and not runs: seeds that are ended one by one would
leave a method its lucky ones, and its mean over them too high.

    curve    (epochs done, validation accuracy in %) of one run, in order
    method   the curves of its seeds so far
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

Curve = Sequence[tuple[int, float]]
Method = Sequence[Curve]


@dataclass(frozen=True)
class Verdict:
    """What a rule says of a method.

    Attributes:
        stop: Whether its runs end here.
        why: In words.
    """

    stop: bool
    why: str


class Rule(Protocol):
    """When a method cannot win any more."""

    def judge(self, own: Method, others: Sequence[Method], epoch: int, before: int = 0) -> Verdict | None:
        """Compare a method with others.

        Args:
            own: The method that is judged.
            others: Those that it is compared with.
            epoch: How many epochs its run has done, the last of them validated.
            before: How many it had done at the validation before; 0 for none.

        Returns:
            None where nothing is decided at this epoch.
        """


@dataclass(frozen=True)
class ASHA:
    """Asynchronous successive halving in its stopping form (Li et al., MLSys 2020, algorithm 2).

    At min_epochs * eta^k epochs, k = 0, 1, ..., the best 1 / eta of the methods that have come so far go on, and at
    least one. Nobody waits for the others: who comes first is compared with those that are there.

        ASHA(min_epochs=5, eta=3).judge(own=[[(5, 60.0)]], others=[[[(5, 70.0)]], [[(5, 50.0)]]], epoch=5)

    stops: 2nd of 3, of which one goes on.

    Attributes:
        min_epochs: Epochs to the first comparison.
        eta: The share that goes on is 1 / eta.
    """

    min_epochs: int = 5
    eta: int = 3

    def judge(self, own: Method, others: Sequence[Method], epoch: int, before: int = 0) -> Verdict | None:
        """Judge a run at the last rung that it has reached since its validation before."""
        rung = max((each for each in self._rungs(epoch) if each > before), default=None)
        if rung is None:
            return None
        mine = _mean(_at(curve, rung) for curve in own)
        theirs = [value for method in others if (value := _mean(_at(curve, rung) for curve in method)) is not None]
        assert mine is not None
        rank, count = 1 + sum(value > mine for value in theirs), 1 + len(theirs)
        kept = max(1, count // self.eta)
        return Verdict(rank > kept, f"{mine:.2f} % on validation is place {rank} of {count}, and {kept} may go on")

    def _rungs(self, epoch: int) -> Iterator[int]:
        rung = self.min_epochs
        while rung <= epoch:
            yield rung
            rung *= self.eta


@dataclass(frozen=True)
class Median:
    """The median stopping rule of Vizier (Golovin et al., KDD 2017, section 3.2.2), over all that have come so far.

    A method ends where its best epoch so far is below the median of the others' running averages up to the same epoch.

        Median(min_epochs=2).judge(own=[[(1, 10.0), (2, 20.0)]], others=[[[(1, 30.0), (2, 50.0)]]], epoch=2)

    stops: 20 is below the average of 30 and 50.

    Attributes:
        min_epochs: Epochs to the first comparison.
    """

    min_epochs: int = 5

    def judge(self, own: Method, others: Sequence[Method], epoch: int, before: int = 0) -> Verdict | None:
        """Judge a run at every validated epoch from `min_epochs` on."""
        if epoch < self.min_epochs:
            return None
        averages = [
            value
            for method in others
            if (value := _mean(_over(curve, epoch, statistics.fmean) for curve in method)) is not None
        ]
        best = _mean(_over(curve, epoch, max) for curve in own)
        if not averages or best is None:
            return None
        middle = statistics.median(averages)
        said = f"{best:.2f} % on validation at best, and the median of {len(averages)} others' averages is {middle:.2f}"
        return Verdict(best < middle, said)


def _at(curve: Curve, epoch: int) -> float | None:
    """Give the accuracy at the first validation from an epoch on; None if the run has not come to it."""
    return next((accuracy for done, accuracy in curve if done >= epoch), None)


def _over(curve: Curve, epoch: int, summary: Callable[[Sequence[float]], float]) -> float | None:
    """Summarise the accuracies up to an epoch; None if the run has not come to it."""
    if not curve or curve[-1][0] < epoch:
        return None
    seen = [accuracy for done, accuracy in curve if done <= epoch]
    return summary(seen) if seen else None


def _mean(values: Iterator[float | None]) -> float | None:
    """Average over the seeds that have come so far; None if none has."""
    found = [value for value in values if value is not None]
    return statistics.fmean(found) if found else None


class Pruning(Callback):
    """Ends a training after the epoch whose validation accuracy was not good enough.

    Args:
        stops: Tells that, from the epochs done and the accuracy; asked in the first process alone, never at the last
            epoch.
    """

    def __init__(self, stops: Callable[[int, float], bool]) -> None:
        self._stops = stops

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ask the rule whether to stop; the epoch's row and checkpoint are written all the same."""
        done = trainer.current_epoch + 1
        if done == trainer.max_epochs:
            return
        asked = trainer.is_global_zero and self._stops(done, float(trainer.callback_metrics["val/acc"]))
        trainer.should_stop = bool(trainer.strategy.broadcast(asked)) or trainer.should_stop
