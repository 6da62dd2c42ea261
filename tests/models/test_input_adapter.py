import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tser_lightning.data.augment import normalise
from tser_lightning.models import InputAdapter
from tser_lightning.models.input_adapter import adapt_input

DATA = {"mean": [0.5071, 0.4867, 0.4408], "std": [0.2675, 0.2565, 0.2761]}
NET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
RAW_BCHW = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_a_network_sees_the_raw_images_as_it_would_have_normalised_and_resized_them_itself() -> None:
    adapter = InputAdapter(3, 224, **NET)
    adapter.images_have(**DATA)
    itself = normalise(F.interpolate(RAW_BCHW, size=(224, 224), mode="bilinear"), **NET)
    torch.testing.assert_close(adapter(normalise(RAW_BCHW, **DATA)), itself, atol=2e-6, rtol=0)


def test_images_of_the_right_size_and_normalisation_pass_unchanged() -> None:
    adapter = InputAdapter(3, 32, **NET)
    images_BCHW = normalise(RAW_BCHW, **NET)
    assert torch.equal(adapter(images_BCHW), images_BCHW)
    adapter.images_have(**NET)
    torch.testing.assert_close(adapter(images_BCHW), images_BCHW, atol=1e-6, rtol=0)


def test_other_channels_take_the_average() -> None:
    adapter = InputAdapter(2, 32, **NET)
    assert adapter.mean == pytest.approx([0.449] * 2, abs=1e-6)


def test_weights_and_layers_keep_their_names() -> None:
    net = nn.Conv2d(3, 2, 1)
    names = list(net.state_dict())
    adapt_input(net, 3, 8, **NET)
    assert list(net.state_dict()) == names
    assert copy.deepcopy(net)(RAW_BCHW).shape == (2, 2, 8, 8)
