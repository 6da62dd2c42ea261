"""Every measure that logits alone give, over a whole split and all processes.

Legend: T time step, B image, C class, R row (the mean, then each step), M bin.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from tser_lightning.measure.calibration import BINS, calibration_error, confidence, row_names
from tser_lightning.measure.per_image import declared

# Sums are whole multiples of this, in int64: adding is then exact and the same in any order, so that neither the batch
# size nor the number of processes moves a digit; and it works where float64 does not (Apple's GPUs).
UNIT = 2.0**-32


def _whole(values: Tensor) -> Tensor:
    return values.long() if values.dtype == torch.bool else (values / UNIT).round().long()


class StudentMeasures(Metric):
    """Accuracy, agreement with the teacher, entropy and calibration of a student.

    `compute()` gives a dict of floats: `acc`, `acc5` (above 5 classes), `acc_t1` .. `acc_tT`, `acc_step1` ..
    `acc_stepT`, `ece`, `ece_step1` .. in percent; `entropy`, `entropy_step1` .. in nats; and, if there was a teacher,
    `agreement`, `teacher_acc`, `teacher_fooled` (the share of images where it is wrong and confident) in percent of all
    images, `kl_teacher` in nats, `acc_teacher_fooled` and `copied_teacher_fooled` (the student is right there, or makes
    the same error) in percent of those images, left out if there are none; and what else a function of this folder
    declares with `@per_image`. They are defined in `accuracy_samples`, `agreement_samples`, `entropy_samples` and
    `calibration_error`. Means are NaN if a logit was not finite.

    `update` waits for no device. States are sums of integers: exactly the same result for any split of the data over
    batches and processes.

    Args:
        timesteps: T of the logits that come.
        num_classes: C of the logits that come.
        **settings: Those of `torchmetrics.Metric`, e.g. `sync_on_compute=False`.

    Examples:
        >>> import torch
        >>> measures = StudentMeasures(timesteps=2, num_classes=2)
        >>> student_TBC = torch.tensor([[[1.0, 0.0]], [[0.0, 3.0]]])  # class 0, then class 1 and more surely so
        >>> measures.update(student_TBC, None, torch.tensor([1]))
        >>> found = measures.compute()
        >>> found["acc"], found["acc_t1"], found["acc_step2"]
        (100.0, 0.0, 100.0)
    """

    full_state_update = False
    higher_is_better = None
    is_differentiable = False

    samples: Tensor
    taught: Tensor
    broken: Tensor
    totals: Tensor  # by name
    bins: Tensor  # [2, R, M]: confidence, right predictions

    def __init__(self, timesteps: int, num_classes: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.timesteps, self.num_classes = timesteps, num_classes
        empty_TBC, empty_B = torch.zeros(timesteps, 0, num_classes), torch.zeros(0, dtype=torch.long)
        example = self._samples(empty_TBC, empty_TBC[0], empty_B)
        self._units = {name: 100.0 if kind.dtype == torch.bool else UNIT for name, kind in example.items()}
        self._from_teacher = set(example) - set(self._samples(empty_TBC, None, empty_B))
        for name in ("samples", "taught", "broken"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("totals", torch.zeros(len(self._units), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("bins", torch.zeros(2, timesteps + 1, BINS, dtype=torch.long), dist_reduce_fx="sum")

    @staticmethod
    def _samples(student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> dict[str, Tensor]:
        samples: dict[str, Tensor] = {}
        for function in declared(with_teacher=teacher_BC is not None):
            found = function(student_TBC, teacher_BC, labels_B)
            if twice := sorted(found.keys() & samples.keys()):
                raise ValueError(f"two functions with @per_image give {', '.join(twice)}: rename one of them")
            samples |= found
        return samples

    @torch.no_grad()
    def update(self, student_TBC: Tensor, teacher_BC: Tensor | None, labels_B: Tensor) -> None:
        """Add a batch.

        Args:
            student_TBC: The student's logits at every step.
            teacher_BC: The teacher's logits; None without a teacher, for all batches or for none.
            labels_B: Class indices, int64.

        Raises:
            ValueError: If T or C are not those of the constructor, or the labels are not class indices.
        """
        self._check(student_TBC, labels_B)
        samples = self._samples(student_TBC, teacher_BC, labels_B)
        zero_B = torch.zeros_like(labels_B)
        self.totals += torch.stack([_whole(samples.get(name, zero_B)).sum() for name in self._units])
        bin_RB, confidence_RB, correct_RB = confidence(student_TBC, labels_B)
        self.bins[0].scatter_add_(1, bin_RB, _whole(confidence_RB))
        self.bins[1].scatter_add_(1, bin_RB, _whole(correct_RB))
        self.samples += len(labels_B)
        self.taught += 0 if teacher_BC is None else len(labels_B)
        self.broken += (~student_TBC.isfinite()).any(-1).any(0).sum()
        if teacher_BC is not None:
            self.broken += (~teacher_BC.isfinite()).any(-1).sum()

    def _check(self, student_TBC: Tensor, labels_B: Tensor) -> None:
        steps, _, classes = student_TBC.shape
        if (steps, classes) != (self.timesteps, self.num_classes):
            raise ValueError(
                f"logits of {steps} steps and {classes} classes given to StudentMeasures("
                f"timesteps={self.timesteps}, num_classes={self.num_classes}): make a new one for another T"
            )
        if labels_B.ndim != 1 or labels_B.is_floating_point():
            raise ValueError(f"labels must be class indices [B], not {labels_B.dtype} {list(labels_B.shape)}")

    def compute(self) -> dict[str, float]:
        """Compute the measures by name; empty before the first update. Under DDP each process gets those of all."""
        samples, taught = int(self.samples), int(self.taught)
        if not samples:
            return {}
        values = dict(zip(self._units, self.totals.tolist(), strict=True))
        fooled = values["teacher_fooled"]
        result = {}
        for name, unit in self._units.items():
            inside = name.endswith("_teacher_fooled")
            images = fooled if inside else taught if name in self._from_teacher else samples
            if images:
                result[name] = self._finite(values[name] * unit / images, unit)
        confidence_RM, correct_RM = self.bins.cpu().double()
        for row, name in enumerate(row_names("ece", self.timesteps)):
            error = calibration_error(confidence_RM[row] * UNIT, correct_RM[row], samples)
            result[name] = self._finite(error, UNIT)
        return result

    def _finite(self, value: float, unit: float) -> float:
        # A count is right whatever the logits are; a mean of numbers that were not finite is not a number.
        return float("nan") if unit == UNIT and int(self.broken) else value
