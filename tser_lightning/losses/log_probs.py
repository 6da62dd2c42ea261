"""Log-probabilities of a student over its time steps: the one place where logits become distributions."""

from math import log
from typing import Literal, get_args

import torch
from torch import Tensor

from tser_lightning.errors import UsageError

Over = Literal["steps", "mean_logits", "mean_probs"]
OverLogits = Literal["steps", "mean_logits"]


def check_over(over: str, known: tuple[str, ...] = get_args(Over)) -> None:
    """Raise a UsageError if `over` is none of the known ways to treat the time steps."""
    if over not in known:
        choices = ", ".join(known)
        raise UsageError(
            f"over = {over!r} is no way to treat the time steps", f"known are {choices}", f"choose {choices}"
        )


def averaged(mean: str) -> Over:
    """Name the treatment of the time steps that averages "logits" or "probs"; a UsageError for anything else."""
    if mean == "logits":
        return "mean_logits"
    if mean == "probs":
        return "mean_probs"
    why = "the steps of a student are averaged as logits or as probabilities"
    raise UsageError(f"mean = {mean!r} is not known", why, "give mean=logits or mean=probs")


def full_precision(values: Tensor) -> Tensor:
    """Turn half precision into float32 and leave float32 and float64 as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def log_probs(logits: Tensor, tau: float = 1.0) -> Tensor:
    """Compute log softmax(logits / tau) over the last axis (Eq. 4), in float32 at least."""
    return (full_precision(logits) / tau).log_softmax(-1)


def check_over_logits(over: str) -> None:
    """Raise a UsageError if `over` is neither the logits of every step nor those of their mean."""
    check_over(over, get_args(OverLogits))


def averaged_steps(student_TBC: Tensor, over: OverLogits) -> Tensor:
    """Give the logits of every step ("steps", [T, B, C]) or of their mean ("mean_logits", [1, B, C])."""
    student_TBC = full_precision(student_TBC)
    return student_TBC if over == "steps" else student_TBC.mean(0, keepdim=True)


def student_log_probs(student_TBC: Tensor, over: Over, tau: float = 1.0) -> Tensor:
    """Compute the student's log-probabilities at temperature tau.

    Args:
        student_TBC: Logits at every step.
        over: "steps": a distribution per step. "mean_logits": that of the mean over time of the logits (Algorithm 1).
            "mean_probs": the mean over time of the distributions (Eq. 7 as printed).
        tau: Temperature that the logits are divided by, > 0.

    Returns:
        [T, B, C] for "steps", else [1, B, C].
    """
    if over == "mean_logits":
        return log_probs(full_precision(student_TBC).mean(0, keepdim=True), tau)
    per_step_TBC = log_probs(student_TBC, tau)
    if over == "steps":
        return per_step_TBC
    # The log of a mean of probabilities, without leaving the logarithm: probabilities of 0 stay finite.
    return per_step_TBC.logsumexp(0, keepdim=True) - log(len(per_step_TBC))
