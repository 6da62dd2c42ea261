"""What a training says of itself."""

from math import inf

from tser_lightning.records.measures.declaration import HIGHER, LOWER, NEITHER, Measure, percent

MEASURES = (
    Measure(
        "train/seconds", "training", "s", LOWER, "wall time of all processes that had a part in it",
        "training.trainer", 0,
        bounds=(0, inf), kind="cost",
    ),
    Measure(
        "train/seconds_per_step", "time per step", "s", LOWER,
        "an epoch, its validation included, by its optimiser steps: the median over epochs", "tasks.distill", 4,
        bounds=(0, inf), kind="cost",
    ),
    Measure(
        "train/peak_memory_mb", "peak memory", "MiB", LOWER, "the most that the training held at once",
        "training.trainer", 0, bounds=(0, inf), kind="cost",
    ),
    percent(
        "val", "best_acc", "best validation accuracy", HIGHER, "the highest of any epoch; searches go by it",
        "training.distiller", "training",
    ),
    Measure(
        "train/loss", "training loss", "", LOWER, "all terms with their weights, averaged over an epoch",
        "training.distiller", 3, kind="training",
    ),
    *(
        Measure(
            f"train/{part}", f"training {word}", "", NEITHER, f"the {word} of the loss without its weight",
            "training.distiller", 3, kind="training",
        )
        for part, word in (
            ("ce", "cross-entropy"), ("kl", "KL to the teacher"), ("entropy", "entropy of the student"),
        )
    ),
    Measure(
        "train/{part}", "training: {part}", "", NEITHER,
        "the term {part} of the loss without its weight, averaged over an epoch", "training.distiller", 3,
        kind="training",
    ),
)  # fmt: skip
