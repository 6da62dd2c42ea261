"""What is measured on the test split alone: the teacher beside the student, and how neurons fire."""

from dataclasses import replace
from math import inf

from tser_lightning.records.measures.declaration import HIGHER, LOWER, NEITHER, Measure, percent

AGREEMENT, FIRING = "measure.agreement", "measure.firing"

MEASURES = (
    replace(
        percent(
            "test", "agreement", "agreement with the teacher", HIGHER, "images that student and teacher classify alike",
            AGREEMENT, "teacher",
        ),
        brief=True,
    ),
    Measure(
        "test/kl_teacher", "KL to the teacher", "nats", LOWER,
        "KL(teacher || mean of the student's logits) at temperature 1, averaged over images", AGREEMENT, 3,
        bounds=(0, inf), kind="teacher",
    ),
    percent(
        "test", "acc_teacher_fooled", "accuracy where the teacher is fooled", HIGHER,
        "among the images that the teacher gets confidently wrong", AGREEMENT, "teacher",
    ),
    percent(
        "test", "copied_teacher_fooled", "copies where the teacher is fooled", LOWER,
        "images on which the student repeats a confident error of the teacher's, among those errors", AGREEMENT,
        "teacher",
    ),
    percent("teacher", "acc", "accuracy of the teacher", HIGHER, "on the test split", AGREEMENT, "teacher"),
    percent(
        "teacher", "fooled", "teacher confidently wrong", LOWER, "test images that the teacher gets confidently wrong",
        AGREEMENT, "teacher",
    ),
    replace(
        percent(
            "test", "firing_rate", "firing rate", NEITHER, "spikes per neuron and time step, averaged over neurons",
            FIRING, "activity",
        ),
        brief=True,
    ),
    percent(
        "test", "firing_rate_layers", "firing rate, mean of layers", NEITHER, "the same, averaged over layers", FIRING,
        "activity",
    ),
    percent("test", "dead_neurons", "dead neurons", LOWER, "neurons that no test image made fire", FIRING, "activity"),
    Measure(
        "test/dead_layers", "dead layers", "", LOWER, "layers of which no neuron ever fired", FIRING, 0,
        bounds=(0, inf), kind="activity",
    ),
    Measure(
        "test/saturated_layers", "saturated layers", "", LOWER, "layers that fire nearly always", FIRING, 0,
        bounds=(0, inf), kind="activity",
    ),
)  # fmt: skip
