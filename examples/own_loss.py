"""A loss of your own: decoupled knowledge distillation (DKD; Zhao et al., CVPR 2022), and a training with it.

    python examples/own_loss.py

In a command, from the folder of this file:

    python -m tser_lightning loss=custom loss._target_=own_loss.DKD +loss.beta=4
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tser_lightning as tl
from tser_lightning.data import Digits
from tser_lightning.losses import LossTerms
from tser_lightning.training import Recipe, SingleStep, Teacher, evaluate_network, fit


class DKD(nn.Module):
    """CE + alpha TCKD + beta NCKD, of the mean of the time steps."""

    needs_teacher = True  # without it teacher_BC is None

    def __init__(self, alpha: float = 1.0, beta: float = 8.0, tau: float = 4.0) -> None:
        super().__init__()
        self.weights = {"ce": 1.0, "tckd": alpha, "nckd": beta}
        self.tau = tau

    def forward(self, student_TBC: Tensor, teacher_BC: Tensor, labels_B: Tensor) -> LossTerms:
        """Give the scalar to minimise and its parts, which are logged by their names."""
        logits_BC = student_TBC.mean(0)
        is_label_BC = F.one_hot(labels_B, logits_BC.shape[-1]).bool()
        student, teacher = (logits / self.tau for logits in (logits_BC, teacher_BC))
        parts = {
            "ce": F.cross_entropy(logits_BC, labels_B),
            "tckd": self.tau**2 * kl(label_or_not(student, is_label_BC), label_or_not(teacher, is_label_BC)),
            "nckd": self.tau**2 * kl(other_classes(student, is_label_BC), other_classes(teacher, is_label_BC)),
        }
        total = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return LossTerms(total, parts, self.weights)


def kl(log_s: Tensor, log_p: Tensor) -> Tensor:
    """KL(p || s), mean over the images."""
    return F.kl_div(log_s, log_p, reduction="batchmean", log_target=True)


def label_or_not(logits_BC: Tensor, is_label_BC: Tensor) -> Tensor:
    """Log-probabilities [B, 2] of the label and of all other classes together."""
    log_p_BC = logits_BC.log_softmax(-1)
    both = [log_p_BC.masked_fill(out_BC, -torch.inf).logsumexp(-1) for out_BC in (~is_label_BC, is_label_BC)]
    return torch.stack(both, dim=-1)


def other_classes(logits_BC: Tensor, is_label_BC: Tensor) -> Tensor:
    """Log-probabilities [B, C] among the classes that are not the label."""
    return logits_BC.masked_fill(is_label_BC, -1e4).log_softmax(-1)


if __name__ == "__main__":
    torch.manual_seed(1)
    data = Digits(num_classes=10, shape=[1, 8, 8], mean=[0.3055], std=[0.3759], batch_size=64)
    recipe = Recipe(epochs=3, optimizer=partial(torch.optim.AdamW, lr=0.01))
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    with TemporaryDirectory() as folder:
        fit(SingleStep(net), tl.build_loss("ce"), None, data, Path(folder, "teacher"), recipe=recipe)
        teacher = Teacher(net)
        student = tl.build_student("cnn_small", in_channels=1, timesteps=2)
        fit(student, DKD(beta=2.0), teacher, data, Path(folder, "student"), recipe=recipe)
    found = evaluate_network(student, teacher, data)
    print(f"step 1: {found['acc_t1']:.1f} %, both steps: {found['acc']:.1f} %, teacher: {found['teacher_acc']:.1f} %")
