"""Stop as soon as the answer is sure: a confidence per step, and a threshold that loses no more than was asked for.

Legend: T time step, B image, C class.
After step t an image is decided when the confidence max softmax(mean of the first t logits / temperature_t) reaches the
threshold (SEENN-I, Li et al., 2023, with a temperature per step). The temperatures and the threshold are fitted on
images that the student was not trained on, apart from each other.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from tser_lightning.errors import UsageError
from tser_lightning.models import Student

Bound = Literal["clopper_pearson", "conformal", "none"]
BOUNDS = ("clopper_pearson", "conformal", "none")
FOR_TEMPERATURES = 5  # every fifth image fits temperatures, the others the threshold


@dataclass(frozen=True)
class Exit:
    """The rule of an early exit: when an image is decided.

    Attributes:
        temperatures: What the mean of the first t logits is divided by, for each step; above 1 where it is too sure.
        threshold: Confidence from which on an image is decided; None: never before the last step.
        max_loss: Points of accuracy that may be lost.
        bound: What holds for images of the same kind. clopper_pearson: the loss is at most `max_loss`, with
            probability `confidence` over the draw of the fitting images. conformal: it is at most `max_loss` on average
            over that draw. none: it was at most `max_loss` on the fitting images, which promises nothing.
        confidence: Of clopper_pearson, in (0, 1).
        images: How many images the threshold was fitted on.
        fitted_loss: Share of them, in percent, that all steps classify rightly and the early exit does not, less the
            share for which it is the other way round.

    Examples:
        >>> import torch
        >>> fitted = {"max_loss": 0.5, "bound": "none", "confidence": 0.9, "images": 100, "fitted_loss": 0.0}
        >>> rule = Exit((1.0, 1.0), threshold=0.7, **fitted)
        >>> mean_BC = torch.tensor([[1.0, 3.0], [1.0, 1.0]]).log()  # 3/4, 1/2
        >>> rule.decided(mean_BC, step=0).tolist()
        [True, False]
    """

    temperatures: tuple[float, ...]
    threshold: float | None
    max_loss: float
    bound: Bound
    confidence: float
    images: int
    fitted_loss: float

    def probabilities(self, mean_BC: Tensor, step: int) -> Tensor:
        """Give the probabilities [B, C] after a step, 0 being the first, from the mean of the logits so far."""
        temperature = self.temperatures[min(step, len(self.temperatures) - 1)]
        return (mean_BC / temperature).softmax(-1)

    def decided(self, mean_BC: Tensor, step: int) -> Tensor:
        """Tell for each image whether it is decided."""
        if self.threshold is None:
            return torch.zeros(len(mean_BC), dtype=torch.bool, device=mean_BC.device)
        return self.probabilities(mean_BC, step).amax(-1) >= self.threshold

    def as_dict(self) -> dict[str, Any]:
        """Give the rule as plain values for a student's card; see `read`."""
        return {**asdict(self), "temperatures": list(self.temperatures)}

    @classmethod
    def read(cls, card: Mapping[str, Any]) -> Self:
        """Make a rule from what `as_dict` gave."""
        return cls(**{**card, "temperatures": tuple(card["temperatures"])})


@dataclass(frozen=True)
class Prediction:
    """Classes, probabilities and steps of B images.

    Attributes:
        classes: The class of each, int64 [B].
        probabilities: [B, C], softmax of the mean of the logits of the steps that were run; with a rule, by the
            temperature of the last.
        steps: How many steps each was given, int64 [B].

    Examples:
        >>> import torch
        >>> Prediction(torch.tensor([7]), torch.eye(10)[[7]], torch.tensor([1])).steps.tolist()
        [1]
    """

    classes: Tensor
    probabilities: Tensor
    steps: Tensor


@torch.no_grad()
def predict(student: Student, images: Tensor, rule: Exit | None = None) -> Prediction:
    """Classify, each image for as long as it needs.

    Images that are decided leave the batch: later steps compute the others alone.

    Args:
        student: The student, in eval mode.
        images: [B, C, H, W], or event frames [T, B, C, H, W].
        rule: When an image is decided; None: all steps in one call, the same numbers as `student(images).mean(0)`.

    Returns:
        Class, probabilities and steps of each image.

    Examples:
        >>> import torch
        >>> import tser_lightning as tl
        >>> from tser_lightning.deploy.early_exit import Exit
        >>> student = tl.build_student("cnn_small", in_channels=1, timesteps=4).eval()
        >>> fitted = {"max_loss": 0.5, "bound": "none", "confidence": 0.9, "images": 100, "fitted_loss": 0.0}
        >>> rule = Exit((1.0,) * 4, threshold=0.0, **fitted)
        >>> predict(student, torch.rand(2, 1, 8, 8), rule).steps.tolist()  # anything is sure enough
        [1, 1]
        >>> predict(student, torch.rand(2, 1, 8, 8)).steps.tolist()
        [4, 4]
    """
    if rule is None or rule.threshold is None:
        logits_TBC = student(images)
        mean_BC = logits_TBC.mean(0)
        steps_B = torch.full((len(mean_BC),), len(logits_TBC), device=images.device)
        sure_BC = mean_BC.softmax(-1) if rule is None else rule.probabilities(mean_BC, len(logits_TBC) - 1)
        return Prediction(mean_BC.argmax(-1), sure_BC, steps_B)
    return _until_decided(student, images, rule)


def _until_decided(student: Student, images: Tensor, rule: Exit) -> Prediction:
    steps = student.timesteps if images.ndim == 4 else len(images)
    stream = student.stream(images)
    sum_BC = next(stream)
    open_B = torch.arange(len(sum_BC), device=images.device)  # places in the batch of those that are not decided
    steps_B, probabilities_BC = torch.full_like(open_B, steps), torch.empty_like(sum_BC)
    for step in range(steps):
        mean_BC = sum_BC / (step + 1)
        done_B = rule.decided(mean_BC, step) if step + 1 < steps else torch.ones_like(open_B, dtype=torch.bool)
        probabilities_BC[open_B[done_B]] = rule.probabilities(mean_BC[done_B], step)
        steps_B[open_B[done_B]] = step + 1
        keep_B = ~done_B
        open_B = open_B[keep_B]
        if not len(open_B):
            break
        sum_BC = sum_BC[keep_B] + (stream.send(keep_B) if bool(done_B.any()) else next(stream))
    stream.close()
    return Prediction(probabilities_BC.argmax(-1), probabilities_BC, steps_B)


def fit_exit(
    logits_TBC: Tensor,
    labels_B: Tensor,
    max_loss: float = 0.5,
    bound: Bound = "clopper_pearson",
    confidence: float = 0.9,
) -> Exit:
    """Fit temperatures and threshold on images that the student was not trained on.

    The thresholds are tried in an order that is fixed before any image is seen, from the safest on, and the first that
    does not pass ends the search: so the bound of the last one holds although many were tried (fixed sequence testing;
    Angelopoulos et al., "Learn then test", 2021). What is bounded is the share of images that all steps classify
    rightly and the early exit does not: the accuracy that is lost is no larger.

    Args:
        logits_TBC: The student's logits at every step, of images that it was not trained on; ten at least.
        labels_B: Class indices of these images, int64.
        max_loss: Accuracy that may be lost, in points of 100.
        bound: See `Exit`.
        confidence: Probability with which the bound clopper_pearson holds, in (0, 1).

    Returns:
        When to stop; its `threshold` is None where no early exit keeps to the bound.

    Raises:
        UsageError: There is no such bound, or fewer than ten images.

    Examples:
        >>> import torch
        >>> logits_TBC, labels_B = torch.zeros(3, 100, 10), torch.arange(100) % 10
        >>> logits_TBC[:, torch.arange(100), labels_B] = 9.0  # right and sure from the first step on
        >>> rule = fit_exit(logits_TBC, labels_B, max_loss=0.5, bound="none")
        >>> rule.threshold, rule.images, rule.fitted_loss  # four fifths fit the threshold
        (0.0, 80, 0.0)
        >>> fit_exit(logits_TBC, labels_B, max_loss=0.5, bound="clopper_pearson").threshold is None  # needs 575 images
        True
    """
    from tser_lightning.measure.exit_curve import THRESHOLDS, exit_steps  # only where an exit is fitted

    if bound not in BOUNDS:
        raise UsageError(
            f"exit.bound={bound!r} is not known", f"it is one of {', '.join(BOUNDS)}", f"exit.bound={BOUNDS[0]}"
        )
    means_TBC = _running_means(logits_TBC.double())
    own = torch.arange(len(labels_B), device=labels_B.device) % FOR_TEMPERATURES == 0
    if len(labels_B) < 2 * FOR_TEMPERATURES:
        raise UsageError(
            what=f"{len(labels_B)} images are too few to fit an early exit on",
            why="a temperature per step and a threshold are fitted on the validation split",
            fix="data.validation=0.1 at the training, or exit.max_loss=null",
        )
    temperatures = tuple(_temperature(mean_BC[own], labels_B[own]) for mean_BC in means_TBC)
    scaled = means_TBC / torch.tensor(temperatures, dtype=torch.float64, device=means_TBC.device)[:, None, None]
    confidence_TB = scaled.softmax(-1).amax(-1)[:, ~own]
    right_TB = (means_TBC.argmax(-1) == labels_B)[:, ~own]
    threshold, loss = None, 0.0
    for candidate in THRESHOLDS:
        early_B = right_TB.gather(0, exit_steps(confidence_TB, candidate)[None])[0]
        harmed = int((right_TB[-1] & ~early_B).sum())
        net = harmed - int((~right_TB[-1] & early_B).sum())
        if _upper(harmed, net, early_B.numel(), bound, confidence) > max_loss / 100:
            break
        threshold, loss = candidate, 100 * net / early_B.numel()
    return Exit(temperatures, threshold, max_loss, bound, confidence, int((~own).sum()), loss)


def images_needed(max_loss: float, bound: Bound, confidence: float) -> int:
    """Compute how many validation images a bound needs, even if the early exit harms none of them.

    Args:
        max_loss: Accuracy that may be lost, in points of 100.
        bound: See `Exit`.
        confidence: Of clopper_pearson, in (0, 1).

    Returns:
        Their number, those that fit the temperatures among them.

    Examples:
        >>> images_needed(0.5, "conformal", 0.9)  # 1 / 0.005 - 1, and a fourth more for the temperatures
        249
    """
    share = max_loss / 100
    if bound == "none":
        return 0
    if share <= 0:
        return 1 << 30
    fitting = math.log(1 - confidence) / math.log1p(-share) if bound == "clopper_pearson" else 1 / share - 1
    return math.ceil(math.ceil(fitting) * FOR_TEMPERATURES / (FOR_TEMPERATURES - 1))


def _running_means(logits_TBC: Tensor) -> Tensor:
    counts = torch.arange(1, len(logits_TBC) + 1, device=logits_TBC.device, dtype=logits_TBC.dtype)
    return logits_TBC.cumsum(0) / counts[:, None, None]


def _temperature(mean_BC: Tensor, labels_B: Tensor) -> float:
    """Fit the temperature of the least cross-entropy (Guo et al., "On calibration of modern neural networks", 2017).

    Labels are smoothed by about one image: a step that is right on all of a few images would be given one of 0.
    """
    smoothing = 1 / (len(labels_B) + 1)
    from scipy.optimize import minimize_scalar  # only where an exit is fitted: what a student is loaded for needs none

    found = minimize_scalar(
        lambda log: float(F.cross_entropy(mean_BC / math.exp(log), labels_B, label_smoothing=smoothing)),
        bounds=(-4, 4),
        method="bounded",
    )
    return math.exp(float(found.x))


def _upper(harmed: int, net: int, images: int, bound: Bound, confidence: float) -> float:
    """Compute the upper bound on the share of images that the early exit harms.

    Clopper and Pearson, Biometrika 1934: the upper end of a one-sided interval. Conformal: (n R + 1) / (n + 1),
    Angelopoulos et al., "Conformal risk control", 2022, whose loss is at most 1.
    """
    from scipy.stats import beta

    if bound == "none":
        return net / images
    if bound == "conformal":
        return (harmed + 1) / (images + 1)
    return 1.0 if harmed == images else float(beta.ppf(confidence, harmed + 1, images - harmed))
