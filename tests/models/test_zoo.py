import pytest
import torch
from torch import nn

from tser_lightning.errors import UsageError
from tser_lightning.models import begin_from, from_timm, from_torchvision, resnet18, resnet34, resnet50, vit
from tser_lightning.training.feature_hooks import FeatureHooks


def test_vit_s_16_takes_small_images_and_shows_its_stages() -> None:
    pytest.importorskip("timm")
    torch.manual_seed(0)
    net = vit(100).eval()
    assert sum(parameter.numel() for parameter in net.parameters()) == 21_704_164  # timm, 100 classes
    taps = FeatureHooks(net, ["stage1", "stage2", "stage3", "stage4"], "teacher")
    with torch.no_grad():
        logits_BC = net(torch.randn(1, 3, 32, 32))
        features = taps.take()
        assert logits_BC.shape == (1, 100)
        assert {tuple(tokens.shape) for tokens in features.values()} == {(1, 1 + 14 * 14, 384)}
        head = net.get_submodule("head")
        torch.testing.assert_close(head(features["stage4"][:, 0]), logits_BC)  # the class token is what is classified


def test_the_stages_of_a_vit_are_a_quarter_of_its_blocks_apart() -> None:
    pytest.importorskip("timm")
    stages = from_timm("vit_tiny_patch16_224", pretrained=False).stages
    assert stages == {"stage1": "blocks.2", "stage2": "blocks.5", "stage3": "blocks.8", "stage4": "norm"}


def test_a_vit_of_event_frames_has_their_channels() -> None:
    pytest.importorskip("timm")
    net = vit(10, in_channels=2, model="vit_tiny_patch16_224").eval()
    with torch.no_grad():
        assert net(torch.randn(1, 2, 48, 48)).shape == (1, 10)


def test_an_unknown_network_is_named_with_what_is_close_to_it() -> None:
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match="vit_smal_patch16_224") as error:
        vit(10, model="vit_smal_patch16_224")
    assert "vit_small_patch16_224" in str(error.value)
    with pytest.raises(UsageError, match="resnet35"):
        from_torchvision("resnet35")


@pytest.mark.parametrize(("name", "ours"), [("resnet18", resnet18), ("resnet34", resnet34), ("resnet50", resnet50)])
def test_torchvisions_weights_are_ours_by_name_and_give_its_logits(name: str, ours: type[nn.Module]) -> None:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    theirs, net = models.get_model(name, num_classes=10), ours(10, stem="imagenet")
    net.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(images), theirs.eval()(images), atol=1e-5, rtol=1e-5)


def test_fine_tuning_begins_from_all_weights_but_the_classifiers() -> None:
    net, theirs = resnet18(10), resnet18(7)
    fresh = {name: value.clone() for name, value in net.state_dict().items()}
    begin_from(net, theirs, "zoo:resnet18")
    for name, value in net.state_dict().items():
        assert torch.equal(value, fresh[name] if name.startswith("fc.") else theirs.state_dict()[name]), name
    with pytest.raises(UsageError, match="zoo:resnet34 does not fit"):
        begin_from(resnet34(10), theirs, "zoo:resnet34")
