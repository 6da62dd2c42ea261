"""What is measured on the images of a split: accuracy, calibration, entropy."""

import statistics
from collections.abc import Iterable
from dataclasses import replace
from math import inf

from tser_lightning.records.measures.declaration import HIGHER, LOWER, NEITHER, Derivation, Measure, Numbers, percent


def steps_alone(numbers: Numbers, split: str) -> list[float]:
    """Give the accuracies of the single time steps, in percent."""
    found = (numbers.get(f"{split}/acc_step{t}") for t in range(1, len(numbers) + 1))
    return [accuracy for accuracy in found if accuracy is not None]


def _mean_of_steps(split: str) -> Derivation:
    def derived(numbers: Numbers) -> float | None:
        steps = steps_alone(numbers, split)
        return statistics.fmean(steps) if steps else None

    return derived


def _spread_of_steps(split: str) -> Derivation:
    def derived(numbers: Numbers) -> float | None:
        steps = steps_alone(numbers, split)
        return statistics.stdev(steps) if len(steps) > 1 else None

    return derived


def _measured(split: str, word: str) -> Iterable[Measure]:
    """Declare what is measured on the images of a split."""
    accuracy = "measure.accuracy"
    yield percent(
        split, "acc", f"{word} accuracy", HIGHER, "images whose class the mean of the logits of all time steps gives",
        accuracy, "accuracy",
    )  # fmt: skip
    yield percent(
        split, "acc5", f"{word} accuracy, top 5", HIGHER, "images whose class is among the five largest of that mean",
        accuracy, "accuracy",
    )  # fmt: skip
    yield percent(
        split, "acc_t{t}", f"{word} accuracy at t={{t}}", HIGHER,
        "the mean of the logits of steps 1 to {t}: the student stopped there", accuracy, "accuracy",
    )  # fmt: skip
    yield percent(
        split, "acc_step{t}", f"{word} accuracy, step {{t}} alone", HIGHER, "the logits of step {t} by themselves",
        accuracy, "accuracy",
    )  # fmt: skip
    yield replace(
        percent(
            split, "acc_step_mean", f"{word} accuracy, mean of single steps", HIGHER,
            "the accuracies of the single time steps, averaged over the steps", "records.measures.accuracy", "accuracy",
        ),
        derived=_mean_of_steps(split),
    )  # fmt: skip
    yield Measure(
        f"{split}/acc_step_std", f"{word} accuracy, spread over steps", "points", LOWER,
        "standard deviation (T - 1) of the accuracies of the single time steps: how unlike the steps are",
        "records.measures.accuracy", bounds=(0, 100), kind="accuracy", derived=_spread_of_steps(split),
    )  # fmt: skip
    for name, of, what in (("", "", "the mean of the logits"), ("_step{t}", ", step {t} alone", "step {t} alone")):
        yield percent(
            split, f"ece{name}", f"{word} calibration error{of}", LOWER,
            f"expected calibration error (ECE) of {what}: how far confidence is from accuracy, over 15 bins",
            "measure.calibration", "certainty",
        )  # fmt: skip
        yield Measure(
            f"{split}/entropy{name}", f"{word} entropy{of}", "nats", NEITHER,
            f"entropy of the softmax of {what}, averaged over images: how unsure the student is",
            "measure.calibration", 3, bounds=(0, inf), kind="certainty",
        )  # fmt: skip


MEASURES = tuple(_measured("test", "test"))
ON_VALIDATION_IMAGES = tuple(_measured("val", "validation"))
