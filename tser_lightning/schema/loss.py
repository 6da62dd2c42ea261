"""The settings of the losses, those of a method under its name."""

from typing import Annotated, Literal

from pydantic import Field

from tser_lightning.schema.setting import NotNegative, Part, Positive, Settings, Share, Text, about

ROOM = "tser_lightning.losses."
Layers = Annotated[list[Text], Field(min_length=1)]


class LabelsOnly(Settings, targets=(f"{ROOM}LabelsOnly",)):
    """Cross-entropy alone."""

    label_smoothing: Part = about("share of a label that is spread over all classes")
    mean: Literal["logits", "probs"] = about(
        "the mean over time of logits (Algorithm 1 of TSER) or of probs (Eq. 7 as printed)"
    )


class TET(Settings, targets=(f"{ROOM}TET",)):
    """Temporal efficient training."""

    lam: Share = about("weight of the distance to phi; the labels have 1 - lam")
    phi: float = about("what the logits are drawn to")
    label_smoothing: Part = about("share of a label that is spread over all classes")


class VanillaKD(LabelsOnly, targets=(f"{ROOM}VanillaKD",)):
    """KD of the mean over time."""

    alpha: Share = about("weight of the teacher; the labels have 1 - alpha")
    tau: Positive = about("temperature of the KL divergence")
    tau_squared: bool = about("multiply the KL divergence by tau^2")


class TSER(VanillaKD, targets=(f"{ROOM}TSER",)):
    """Temporal separation with entropy regularisation, and the rows of Table 3 by its switches."""

    lam: NotNegative = about("weight of the entropy; the paper finds 0.0001 to 0.2 stable")
    entropy_tau: Positive = about("temperature of the entropy")
    separate_ce: bool = about("false: the mean over time is compared with the labels", default=True)
    separate_kl: bool = about("false: the mean over time is compared with the teacher", default=True)
    regularise_entropy: bool = about("false: no entropy term", default=True)


class FeatureLoss(Settings):
    """What compares layers of student and teacher in pairs."""

    student_taps: Layers = about("layers of the student: stages (stage4) or module paths")
    teacher_taps: Layers = about("the layers of the teacher that they are compared with")
    label_smoothing: Part = about("share of a label that is spread over all classes")


class KDSNN(FeatureLoss, targets=(f"{ROOM}KDSNN",)):
    """Logits and the last stage's firing rate."""

    mode: Literal["joint", "response", "feature"] = about(
        "response: without the feature; feature: labels and feature, without the logits"
    )
    alpha: Share = about("weight of the teacher's logits")
    tau: Positive = about("temperature")
    beta: NotNegative = about("weight of the feature")


class LaSNN(FeatureLoss, targets=(f"{ROOM}LaSNN",)):
    """Attention maps, layer by layer."""

    map: Literal["attention", "mse"] = about("mse: squared distance of the stages, as BKDSNN's code re-implements it")
    beta: NotNegative | None = about("weight of the maps; null: the published one for `map`")


class BKDSNN(FeatureLoss, targets=(f"{ROOM}BKDSNN",)):
    """Blurred knowledge distillation."""

    tau: Positive = about("temperature of WSLD")
    beta: NotNegative = about(
        "weight of BRD: 7e-5 for CNNs on ImageNet, 2e-3 for transformers and event data (alpha there)"
    )
    masked: Part = about("probability that a channel is hidden (lambda there)")
    clip: bool = about("scale the teacher's feature to the student's maximum")
