import pytest
import torch

from tser_lightning.errors import UsageError
from tser_lightning.losses import KLDivergence, SoftCrossEntropy
from tser_lightning.losses.log_probs import Over


@pytest.mark.parametrize("over", ["steps", "mean_logits", "mean_probs"])
def test_is_the_kl_divergence_plus_the_teachers_entropy(over: Over) -> None:
    student_TBC = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    teacher_BC, labels_B = 3 * torch.randn(4, 5, dtype=torch.float64), torch.zeros(4, dtype=torch.int64)
    teacher_BC.requires_grad_()
    soft = SoftCrossEntropy(over=over, tau=4.0)(student_TBC, teacher_BC, labels_B)
    divergence = KLDivergence(over=over, tau=4.0)(student_TBC, teacher_BC, labels_B)
    entropy = torch.distributions.Categorical(logits=teacher_BC / 4).entropy().mean()
    torch.testing.assert_close(soft, divergence + 16 * entropy, rtol=0, atol=1e-10)
    (gradient,) = torch.autograd.grad(soft, student_TBC, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(divergence, student_TBC)[0], rtol=0, atol=1e-12)
    soft.backward()
    assert teacher_BC.grad is None


def test_a_bad_setting_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match="tau"):
        SoftCrossEntropy(tau=0)
