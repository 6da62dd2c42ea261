"""TSER and the rows of its ablation."""

from typing import Literal

from tser_lightning.errors import UsageError
from tser_lightning.losses.cross_entropy import CrossEntropy
from tser_lightning.losses.distillation_loss import DistillationLoss
from tser_lightning.losses.entropy import Entropy
from tser_lightning.losses.kl_divergence import KLDivergence
from tser_lightning.losses.log_probs import averaged
from tser_lightning.losses.term import Term, not_negative, share


class TSER(DistillationLoss):
    """Temporal separation with entropy regularisation (CVPR 2025, Eq. 8 to 11).

        L = (1 - alpha) mean_t CE(Z(t), y) + alpha mean_t tau^2 KL(Q_teacher || Q(t)) - lam mean_t H(Z(t))

    Z(t) are the student's logits at step t, Q softmax at temperature tau, H the entropy of softmax(Z(t)). The switches
    give the rows of Table 3; with none of them on it is Eq. 7, which `VanillaKD` names.

    Args:
        alpha: Weight of the teacher, in [0, 1]; the labels have 1 - alpha. The paper prints no value.
        tau: Temperature of the KL divergence; 5 in the paper.
        lam: Weight of the entropy, lambda; the paper finds 0.0001 to 0.2 stable.
        separate_ce: Whether the labels teach every step, else the mean over time.
        separate_kl: Whether the teacher teaches every step, else the mean over time.
        regularise_entropy: Whether the entropy of every step is rewarded.
        mean: What is averaged over time where that is not separated: "logits" (Algorithm 1) or "probs" (Eq. 7 as
            printed).
        tau_squared: Whether the KL divergence is multiplied by tau^2; the paper does not print it.
        entropy_tau: Temperature of the entropy.
        label_smoothing: Share of the uniform distribution in the labels, in [0, 1).

    Raises:
        UsageError: A value out of its range; `mean` where both are separated.

    Examples:
        >>> import torch
        >>> loss = TSER(alpha=0.5, tau=5.0, lam=0.01)
        >>> student_TBC, teacher_BC, labels_B = torch.randn(4, 2, 10), torch.randn(2, 10), torch.tensor([3, 7])
        >>> sorted(loss(student_TBC, teacher_BC, labels_B).parts)
        ['ce', 'entropy', 'kl']
    """

    def __init__(
        self,
        alpha: float = 0.5,
        tau: float = 5.0,
        lam: float = 0.01,
        separate_ce: bool = True,
        separate_kl: bool = True,
        regularise_entropy: bool = True,
        mean: Literal["logits", "probs"] = "logits",
        tau_squared: bool = True,
        entropy_tau: float = 1.0,
        label_smoothing: float = 0.0,
    ) -> None:
        over_mean = averaged(mean)
        if mean != "logits" and separate_ce and separate_kl:
            why = "labels and teacher are compared with every step, and nothing is averaged over time"
            raise UsageError(f"mean = {mean!r} does nothing here", why, "leave it out, or give separate_kl=False")
        entropy = Entropy(-not_negative("lam", lam), tau=entropy_tau)
        terms: dict[str, Term] = {
            "ce": CrossEntropy(1 - share("alpha", alpha), "steps" if separate_ce else over_mean, label_smoothing),
            "kl": KLDivergence(alpha, "steps" if separate_kl else over_mean, tau, tau_squared),
        }
        if regularise_entropy:
            terms["entropy"] = entropy
        super().__init__(terms)
