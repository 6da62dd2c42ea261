"""The settings of the losses, those of a method under its name."""

from typing import Annotated, Literal

from pydantic import Field

from tser_lightning.schema.setting import (
    NotNegative,
    Positive,
    Settings,
    Text,
    UnitInterval,
    UnitIntervalOpenAbove,
    about,
)

ROOM = "tser_lightning.losses."
Layers = Annotated[list[Text], Field(min_length=1)]


class LabelsOnlySettings(Settings, targets=(f"{ROOM}LabelsOnly",)):
    """Cross-entropy alone."""

    label_smoothing: UnitIntervalOpenAbove = about("share of a label that is spread over all classes")
    mean: Literal["logits", "probs"] = about(
        "the mean over time of logits (Algorithm 1 of TSER) or of probs (Eq. 7 as printed)"
    )


class TETSettings(Settings, targets=(f"{ROOM}TET",)):
    """Temporal efficient training."""

    lam: UnitInterval = about("weight of the distance to phi; the labels have 1 - lam")
    phi: float = about("what the logits are drawn to")
    label_smoothing: UnitIntervalOpenAbove = about("share of a label that is spread over all classes")


class VanillaKDSettings(LabelsOnlySettings, targets=(f"{ROOM}VanillaKD",)):
    """KD of the mean over time."""

    alpha: UnitInterval = about("weight of the teacher; the labels have 1 - alpha")
    tau: Positive = about("temperature of the KL divergence")
    tau_squared: bool = about("multiply the KL divergence by tau^2")


class TSERSettings(VanillaKDSettings, targets=(f"{ROOM}TSER",)):
    """Temporal separation with entropy regularisation, and the rows of Table 3 by its switches."""

    lam: NotNegative = about("weight of the entropy; the paper finds 0.0001 to 0.2 stable")
    entropy_tau: Positive = about("temperature of the entropy")
    mean: Literal["logits", "probs"] = about(
        "the mean over time of logits (Algorithm 1) or of probs (Eq. 7 as printed), where that is not separated",
        default="logits",
    )
    separate_ce: bool = about("false: the mean over time is compared with the labels", default=True)
    separate_kl: bool = about("false: the mean over time is compared with the teacher", default=True)
    regularise_entropy: bool = about("false: no entropy term", default=True)


class FeatureLossSettings(Settings):
    """What compares layers of student and teacher in pairs."""

    student_taps: Layers = about("layers of the student: stages (stage4) or module paths")
    teacher_taps: Layers = about("the layers of the teacher that they are compared with")
    label_smoothing: UnitIntervalOpenAbove = about("share of a label that is spread over all classes")


class KDSNNSettings(FeatureLossSettings, targets=(f"{ROOM}KDSNN",)):
    """Logits and the last stage's firing rate."""

    mode: Literal["joint", "response", "feature"] = about(
        "response: without the feature; feature: labels and feature, without the logits"
    )
    alpha: UnitInterval = about("weight of the teacher's logits")
    tau: Positive = about("temperature")
    beta: NotNegative = about("weight of the feature")


class LaSNNSettings(FeatureLossSettings, targets=(f"{ROOM}LaSNN",)):
    """Attention maps, layer by layer."""

    map: Literal["attention", "mse"] = about("mse: squared distance of the stages, as BKDSNN's code re-implements it")
    beta: NotNegative | None = about("weight of the maps; null: the published one for `map`")


class BKDSNNSettings(FeatureLossSettings, targets=(f"{ROOM}BKDSNN",)):
    """Blurred knowledge distillation."""

    tau: Positive = about("temperature of WSLD")
    beta: NotNegative = about(
        "weight of BRD: 7e-5 for CNNs on ImageNet, 2e-3 for transformers and event data (alpha there)"
    )
    masked: UnitIntervalOpenAbove = about("probability that a channel is hidden (lambda there)")
    clip: bool = about("scale the teacher's feature to the student's maximum")


class SmoothedSettings(Settings):
    """What every one of the losses below has."""

    label_smoothing: UnitIntervalOpenAbove = about("share of a label that is spread over all classes")


class TDDSettings(SmoothedSettings, targets=(f"{ROOM}TDD",)):
    """Temporal decoupling distillation."""

    alpha: NotNegative = about("weight of the teacher")
    beta: NotNegative = about("weight of the steps that are right")
    tau: Positive = about("temperature of both divergences")


class SeAlKDSettings(SmoothedSettings, targets=(f"{ROOM}SeAlKD",)):
    """Selective alignment distillation."""

    alpha: NotNegative = about("weight of the teacher (ELA)")
    beta: NotNegative = about("weight of the other steps (STA)")
    tau: Positive = about("temperature of both divergences")


class StrongAndWeakSettings(SmoothedSettings, targets=(f"{ROOM}StrongToWeak", f"{ROOM}WeakToStrong")):
    """Self-distillation between the surest and the least sure step."""

    lam: NotNegative = about("weight of the divergence of the two steps")
    tau: Positive = about("its temperature")


class MEOMSettings(SmoothedSettings, targets=(f"{ROOM}MEOM",)):
    """Many Eyes, One Mind: its part on logits."""

    beta: NotNegative = about("weight of the teacher")
    gamma: NotNegative = about("weight of drawing shorter runs to those of one step more")
    tau: Positive = about("temperature of the KL divergence")


class HTAKLSettings(SmoothedSettings, targets=(f"{ROOM}HTAKL",)):
    """Head-tail-aware KL."""

    alpha: UnitInterval = about("weight of the teacher; the labels have 1 - alpha")
    tau: Positive = about("temperature of both distributions")
    head: UnitInterval = about("share of the teacher's mass that is the head")


class CKDSNNSettings(SmoothedSettings, targets=(f"{ROOM}CKDSNN",)):
    """Saliency maps and noise-smoothed logits."""

    nld: NotNegative = about("weight of the noise-smoothed logits")
    samd: NotNegative = about("weight of the saliency maps")
    tau: Positive = about("temperature of both")
    clean: UnitInterval = about("share of the distribution without noise")
    student_layer: Text = about("the last map of the student: a stage (stage4) or a module path")
    teacher_layer: Text = about("the last map of the teacher, which its classifier averages over the image")


class SAKDSettings(FeatureLossSettings, targets=(f"{ROOM}SAKD",)):
    """Transformed features of all stages."""

    beta: NotNegative = about("weight of the features")
    c: NotNegative = about("weight of the logits")
    tau: Positive = about("temperature of the logits")


class IMLossSettings(SmoothedSettings, targets=(f"{ROOM}IMLoss",)):
    """Information maximisation loss."""

    lam: NotNegative = about("weight of the currents")
    v_threshold: float = about("the threshold that the currents aim at")
    neurons: Layers = about("the neurons whose currents count: module paths or patterns")


class DKDSettings(SmoothedSettings, targets=(f"{ROOM}DKD",)):
    """Decoupled knowledge distillation."""

    alpha: NotNegative = about("weight of the label's probability (TCKD)")
    beta: NotNegative = about("weight of the other classes (NCKD); 1 to 8 in the paper, by teacher")
    tau: Positive = about("temperature")
    warmup: UnitInterval = about(
        "share of the training in which the weights rise from 0; 20 of 240 epochs in the paper"
    )
    over: Literal["steps", "mean_logits"] = about("what is compared with the teacher")
    standardise: bool = about("standardise the logits first")


class DISTSettings(SmoothedSettings, targets=(f"{ROOM}DIST",)):
    """Distillation from a stronger teacher."""

    beta: NotNegative = about("weight of the relation between the classes of an image")
    gamma: NotNegative = about("weight of the relation between the images of a class")
    tau: Positive = about("temperature")
    over: Literal["steps", "mean_logits"] = about("what is compared with the teacher")


class LogitStandardizationSettings(SmoothedSettings, targets=(f"{ROOM}LogitStandardization",)):
    """KD of standardised logits."""

    ce: NotNegative = about("weight of the labels")
    kd: NotNegative = about("weight of the teacher")
    tau: Positive = about("temperature")
    over: Literal["steps", "mean_logits"] = about("the logits of every step, or their mean")
