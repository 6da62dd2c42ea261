import pytest
import torch
from torch import Tensor, nn

from tser_lightning.models import Student, resnet_small, vgg_small
from tser_lightning.models.activation import relu
from tser_lightning.models.folding import fold_norms, norms_after_convolutions
from tser_lightning.models.norms import TEBN
from tser_lightning.neurons import LIF


def woken(net: nn.Module) -> nn.Module:
    """In eval mode, with norms that do something."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.double().eval()


@pytest.mark.parametrize("make", [resnet_small, vgg_small])
@pytest.mark.parametrize("spiking", [False, True])
def test_folded_norms_change_no_answer(make: type[nn.Module], spiking: bool) -> None:
    net = woken(Student(make(5, 3, LIF), 3) if spiking else make(5, 3, relu))
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    folded = fold_norms(net, images)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert len(norms_after_convolutions(net, images)) == norms > 0
    expected = net(images)
    assert expected.std() > 0
    torch.testing.assert_close(folded(images), expected, rtol=1e-10, atol=1e-10)


def test_norms_that_see_time_stay() -> None:
    net = woken(Student(resnet_small(5, 3, LIF, norm=lambda channels: TEBN(channels, 2)), 2))
    folded = fold_norms(net, torch.randn(2, 3, 8, 8, dtype=torch.float64))
    assert sum(isinstance(module, TEBN) for module in folded.modules()) == sum(
        isinstance(module, TEBN) for module in net.modules()
    )


class Twice(nn.Module):
    """Uses the output of its convolution beside the norm as well, so that nothing can be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, eps=1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        normed: Tensor = self.norm(x)
        return normed + x


def test_a_network_that_cannot_be_folded_is_left() -> None:
    net = woken(Twice())
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    assert torch.equal(fold_norms(net, images)(images), net(images))
