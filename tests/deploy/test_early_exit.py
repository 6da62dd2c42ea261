"""Early exit: the rule, its bound over resampled splits, and images that leave the batch."""

from functools import partial
from typing import Any, cast

import pytest
import torch
from scipy.stats import binom
from torch import Tensor, nn

from tser_lightning.deploy.early_exit import Exit, fit_exit, images_needed, predict
from tser_lightning.errors import UsageError
from tser_lightning.measure.exit_curve import THRESHOLDS, exit_steps
from tser_lightning.models import Student, resnet_small
from tser_lightning.neurons import GLIF, IMLIF, LIF, MPBN, PFA, PLIF


def rule(threshold: float | None, *temperatures: float) -> Exit:
    return Exit(temperatures or (1.0,), threshold, 0.5, "none", 0.9, 100, 0.0)


def student(neuron: Any = LIF, steps: int = 4, sharp: float = 20, **settings: Any) -> Student:
    torch.manual_seed(0)
    net = resnet_small(5, 1, neuron, widths=[4, 8], **settings)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, 0, 1)
    net.get_submodule("fc").get_parameter("weight").data.mul_(sharp)
    return Student(net, steps).eval()


IMAGES_BCHW = 3 * torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_without_a_rule_it_is_the_full_call_to_the_last_bit() -> None:
    net = student()
    with torch.no_grad():
        mean_BC = net(IMAGES_BCHW).mean(0)
    found = predict(net, IMAGES_BCHW)
    assert torch.equal(found.probabilities, mean_BC.softmax(-1))
    assert torch.equal(found.classes, mean_BC.argmax(-1))
    assert found.steps.tolist() == [4] * 12


@pytest.mark.parametrize(
    "neuron", [*(partial(kind, v_threshold=0.3) for kind in (LIF, PLIF, IMLIF)), MPBN, partial(GLIF, timesteps=4)]
)
def test_images_that_leave_the_batch_change_nothing_for_those_that_stay(neuron: Any) -> None:
    net = student(neuron, sharp=2)
    with torch.no_grad():
        logits_TBC = net(IMAGES_BCHW)
    means_TBC = logits_TBC.cumsum(0) / torch.arange(1, 5)[:, None, None]
    confidence_TB = means_TBC.softmax(-1).amax(-1)
    reached = confidence_TB[:3].flatten().sort().values
    gaps = reached.diff().argsort(descending=True).tolist()  # in a wide one no rounding decides
    rules = [rule(float(reached[gap] + reached[gap + 1]) / 2) for gap in gaps]
    expected = {each: exit_steps(confidence_TB, each.threshold or 0) for each in rules}
    chosen, expected_B = next((each, steps_B) for each, steps_B in expected.items() if len(steps_B.unique()) > 1)
    found = predict(net, IMAGES_BCHW, chosen)
    assert found.steps.tolist() == (expected_B + 1).tolist()
    expected_BC = means_TBC.gather(0, expected_B[None, :, None].expand(1, 12, 5))[0].softmax(-1)
    torch.testing.assert_close(found.probabilities, expected_BC, rtol=1e-4, atol=1e-5)


def test_later_steps_compute_the_undecided_alone() -> None:
    net = student()
    sizes: list[int] = []
    net.net.get_submodule("fc").register_forward_hook(lambda _, args, out: sizes.append(len(args[0])))
    steps_B = predict(net, IMAGES_BCHW, rule(0.9)).steps
    assert sizes == [int((steps_B > step).sum()) for step in range(int(steps_B.max()))]


def test_event_frames_and_a_network_that_looks_ahead_exit_too() -> None:
    frames_TBCHW = torch.rand(3, 6, 1, 8, 8)
    for net in (student(), student(attention="pfa", attention_timesteps=3)):
        assert any(isinstance(module, PFA) for module in net.modules()) or net.timesteps == 4
        with torch.no_grad():
            logits_TBC = net(frames_TBCHW)
        found = predict(net, frames_TBCHW, rule(0.0))
        assert found.steps.tolist() == [1] * 6
        torch.testing.assert_close(found.probabilities, logits_TBC[0].softmax(-1))
        found = predict(net, frames_TBCHW, rule(None))
        assert found.steps.tolist() == [3] * 6
        torch.testing.assert_close(found.probabilities, logits_TBC.mean(0).softmax(-1))


def population(images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Logits of four steps of a student that gets better with time and is too sure of itself at first."""
    generator = torch.Generator().manual_seed(seed)
    labels_B = torch.randint(0, 10, (images,), generator=generator)
    signal = torch.tensor([2.0, 2.5, 3.0, 3.2])[:, None, None] * nn.functional.one_hot(labels_B, 10)
    noise = torch.randn(4, images, 10, generator=generator)
    return (signal + noise) * torch.tensor([4.0, 2.0, 1.0, 1.0])[:, None, None], labels_B


def lost(found: Exit, logits_TBC: Tensor, labels_B: Tensor) -> tuple[float, float]:
    """Points of accuracy that a rule loses on a population, and the mean number of steps."""
    means_TBC = logits_TBC.cumsum(0) / torch.arange(1, 5)[:, None, None]
    scaled_TBC = means_TBC / torch.tensor(found.temperatures)[:, None, None]
    threshold = 2.0 if found.threshold is None else found.threshold
    steps_B = exit_steps(scaled_TBC.softmax(-1).amax(-1), threshold)
    right_TB = means_TBC.argmax(-1) == labels_B
    early_B = right_TB.gather(0, steps_B[None])[0]
    return 100 * float(right_TB[-1].float().mean() - early_B.float().mean()), 1 + float(steps_B.float().mean())


@pytest.mark.parametrize("bound", ["clopper_pearson", "conformal"])
def test_the_bound_holds_over_resampled_splits(bound: Any) -> None:
    logits_TBC, labels_B = population(20_000, 0)
    losses, steps = [], []
    for seed in range(60):
        chosen = torch.randperm(20_000, generator=torch.Generator().manual_seed(seed))[:600]
        found = fit_exit(logits_TBC[:, chosen], labels_B[chosen], 2.0, bound, 0.9)
        loss, mean_steps = lost(found, logits_TBC, labels_B)
        losses.append(loss)
        steps.append(mean_steps)
    broken = sum(loss > 2.0 for loss in losses)
    if bound == "clopper_pearson":
        assert broken <= binom.ppf(0.999, 60, 0.1)
    else:
        assert sum(losses) / 60 <= 2.0
    assert sum(steps) / 60 < 3.5


def test_without_a_bound_the_loss_on_the_fitting_images_is_what_counts() -> None:
    logits_TBC, labels_B = population(400, 3)
    found = fit_exit(logits_TBC, labels_B, 0.5, "none")
    assert found.threshold is not None
    assert found.fitted_loss <= 0.5
    assert fit_exit(logits_TBC, labels_B, 0.5).threshold is None


def test_the_images_that_a_bound_needs_are_those_from_which_on_it_can_be_met() -> None:
    for bound in ("clopper_pearson", "conformal"):
        needed = images_needed(0.5, bound, 0.9)
        sure_TBC, labels_B = (
            9 * nn.functional.one_hot(torch.zeros(needed, dtype=torch.long), 3)[None].expand(2, -1, 3),
            torch.zeros(needed, dtype=torch.long),
        )
        assert fit_exit(sure_TBC.float(), labels_B, 0.5, bound).threshold == 0
        fewer = needed - 3
        assert fit_exit(sure_TBC[:, :fewer].float(), labels_B[:fewer], 0.5, bound).threshold is None
    assert images_needed(0.5, "clopper_pearson", 0.9) == 575  # 460 = log(0.1) / log(0.995), and a quarter more


def test_a_step_that_is_right_on_all_images_is_not_made_sure_of_everything() -> None:
    labels_B = torch.arange(60) % 3
    logits_TBC = 4.0 * nn.functional.one_hot(labels_B, 3)[None].expand(2, -1, 3)
    assert all(0.5 < each < 2 for each in fit_exit(logits_TBC, labels_B).temperatures)


def test_a_temperature_undoes_a_scale() -> None:
    logits_TBC, labels_B = population(2000, 5)
    plain, scaled = fit_exit(logits_TBC, labels_B, 2), fit_exit(3 * logits_TBC, labels_B, 2)
    ratios = [b / a for a, b in zip(plain.temperatures, scaled.temperatures, strict=True)]
    assert ratios == pytest.approx([3.0] * 4, rel=1e-2)
    assert plain.temperatures[0] > plain.temperatures[-1]


def test_a_rule_comes_back_from_a_card_and_the_order_of_thresholds_is_fixed() -> None:
    known = rule(0.75, 1.5, 2.0)
    assert Exit.read(known.as_dict()) == known
    assert list(THRESHOLDS) == sorted(THRESHOLDS, reverse=True)
    assert THRESHOLDS[-1] == 0
    with pytest.raises(UsageError, match="too few"):
        fit_exit(torch.zeros(2, 3, 4), torch.zeros(3, dtype=torch.long))
    with pytest.raises(UsageError, match=r"exit\.bound"):
        fit_exit(torch.zeros(2, 3, 4), torch.zeros(3, dtype=torch.long), bound=cast(Any, "hope"))
