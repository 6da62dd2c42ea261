import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tser_lightning.errors import UsageError
from tser_lightning.losses.log_probs import Over, check_over, student_log_probs


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max())
    return np.asarray(odds / odds.sum())


@given(seed=st.integers(0, 10_000), steps=st.integers(1, 5), tau=st.floats(0.2, 20))
def test_distributions_equal_a_numpy_loop(seed: int, steps: int, tau: float) -> None:
    logits = np.random.default_rng(seed).normal(size=(steps, 3, 4)) * 3
    student_TBC = torch.from_numpy(logits)
    for b in range(3):
        per_step = [softmax(logits[t, b] / tau) for t in range(steps)]
        of_mean = softmax(sum(logits[t, b] for t in range(steps)) / steps / tau)
        np.testing.assert_allclose(student_log_probs(student_TBC, "steps", tau)[:, b].exp(), per_step, atol=1e-12)
        np.testing.assert_allclose(student_log_probs(student_TBC, "mean_logits", tau)[0, b].exp(), of_mean, atol=1e-12)
        mean_probs = student_log_probs(student_TBC, "mean_probs", tau)[0, b].exp()
        np.testing.assert_allclose(mean_probs, sum(per_step) / steps, atol=1e-12)


@pytest.mark.parametrize("over", ["steps", "mean_logits", "mean_probs"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_computed_in_float32(over: Over, dtype: torch.dtype) -> None:
    student_TBC = torch.randn(3, 2, 5).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = student_log_probs(student_TBC, over, tau=1e-2)
    assert found.dtype == torch.float32
    # A temperature of 0.01 takes float16 out of its range; float32 is exact to its own rounding.
    torch.testing.assert_close(found, student_log_probs(student_TBC.double(), over, tau=1e-2).float())


def test_an_unknown_way_over_time_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="mean_probs"):
        check_over("mean")
