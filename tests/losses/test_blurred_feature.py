import numpy as np
import pytest
import torch
from torch import Tensor

from tser_lightning.errors import UsageError
from tser_lightning.losses import BlurredFeature, LossContext

LOGITS_TBC, LABELS_B = torch.zeros(3, 2, 10), torch.zeros(2, dtype=torch.int64)


def seen(student: dict[str, Tensor], teacher: dict[str, Tensor]) -> LossContext:
    return LossContext(student_features=student, teacher_features=teacher)


def convolve(image_CHW: np.ndarray, kernel_OIKK: np.ndarray, bias_O: np.ndarray) -> np.ndarray:
    """A convolution with zero padding that keeps the size, number by number."""
    out, _, size, _ = kernel_OIKK.shape
    height, width = image_CHW.shape[1:]
    padded = np.pad(image_CHW, ((0, 0), (size // 2, size // 2), (size // 2, size // 2)))
    result = np.zeros((out, height, width))
    for o, i, j in np.ndindex(out, height, width):
        result[o, i, j] = (kernel_OIKK[o] * padded[:, i : i + size, j : j + size]).sum() + bias_O[o]
    return result


def loop(term: BlurredFeature, student_TBCHW: Tensor, target: Tensor, seed: int, clip: bool) -> float:
    """sum (G(m . F_s) - F_t)^2 / B; `target` [B, C, H, W], or [B, C] for the pooled vector of a transformer."""
    state = {name: value.numpy() for name, value in term.state_dict().items()}
    feature = student_TBCHW.mean(0).numpy()
    if "aligns.0.conv.weight" in state:
        feature = np.stack(
            [convolve(image, state["aligns.0.conv.weight"], state["aligns.0.conv.bias"]) for image in feature]
        )
    wanted = target.numpy() / target.max().item() * feature.max() if clip else target.numpy()
    torch.manual_seed(seed)
    hidden = (torch.rand(*feature.shape[:2], 1, 1) < 0.15).numpy()
    assert hidden.any()
    total = 0.0
    for b in range(len(feature)):
        blurred = np.where(hidden[b], 0.0, feature[b])
        blurred = convolve(blurred, state["generators.0.layers.0.weight"], state["generators.0.layers.0.bias"])
        blurred = np.maximum(blurred, 0)
        blurred = convolve(blurred, state["generators.0.layers.2.weight"], state["generators.0.layers.2.bias"])
        total += float((((blurred if wanted.ndim == 4 else blurred.mean((1, 2))) - wanted[b]) ** 2).sum())
    return total / len(feature)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("channels", [6, 8], ids=["aligned", "equal widths"])
@pytest.mark.parametrize("transformer", [False, True])
def test_equals_a_loop_over_pixels(clip: bool, channels: int, transformer: bool) -> None:
    student_TBCHW = torch.randint(2, (3, 2, channels, 3, 3)).double()
    target = torch.rand(2, 8, dtype=torch.float64) if transformer else torch.rand(2, 8, 3, 3, dtype=torch.float64)
    term = BlurredFeature(clip=clip)
    features = {"stage4": student_TBCHW}, {"stage4": target}
    term(LOGITS_TBC, None, LABELS_B, seen(*features))
    torch.manual_seed(5)
    found = term(LOGITS_TBC, None, LABELS_B, seen(*features))
    assert found.item() == pytest.approx(loop(term, student_TBCHW, target, seed=5, clip=clip), abs=1e-10)


def test_the_gradient_of_a_clipped_feature_goes_through_the_maximum_too() -> None:
    # One pixel is its own maximum: the target is t / t * f. The gradient is compared with differences of the loss.
    torch.manual_seed(0)
    feature = torch.rand(1, 1, 1, 1, 1, dtype=torch.float64, requires_grad=True)
    target = torch.full((1, 1, 1, 1), 3.0, dtype=torch.float64)
    term = BlurredFeature(masked=0.0, clip=True)

    def loss(value: Tensor) -> Tensor:
        found: Tensor = term(LOGITS_TBC, None, LABELS_B, seen({"stage4": value}, {"stage4": target}))
        return found

    loss(feature)
    assert torch.autograd.gradcheck(loss, [feature])


def test_tokens_of_a_vision_transformer_are_compared_by_their_class_token() -> None:
    student_TBCHW, tokens_BNC = torch.rand(3, 2, 4, 2, 2), torch.rand(2, 17, 4)
    term = BlurredFeature(masked=0.0)
    by_tokens = term(LOGITS_TBC, None, LABELS_B, seen({"stage4": student_TBCHW}, {"stage4": tokens_BNC}))
    by_vector = term(LOGITS_TBC, None, LABELS_B, seen({"stage4": student_TBCHW}, {"stage4": tokens_BNC[:, 0]}))
    torch.testing.assert_close(by_tokens, by_vector)


def test_channels_are_hidden_at_their_rate_and_the_rest_is_not_rescaled() -> None:
    torch.manual_seed(0)
    hidden_BCHW = BlurredFeature()._hide(torch.ones(64, 512, 2, 2))
    assert set(hidden_BCHW.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(hidden_BCHW[..., 0, 0], hidden_BCHW[..., 1, 1])
    # 32768 draws: five standard deviations are 0.01.
    assert (hidden_BCHW == 0).float().mean().item() == pytest.approx(0.15, abs=0.01)


def test_a_probability_out_of_range_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match="masked"):
        BlurredFeature(masked=1.0)
