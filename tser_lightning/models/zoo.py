"""Networks of torchvision and timm, as teachers: with their stages named and their input adapted."""

import difflib
from typing import Any

from torch import nn

from tser_lightning.errors import UsageError
from tser_lightning.models.activation import relu
from tser_lightning.models.input_adapter import adapt_input
from tser_lightning.models.network import Factory


def from_timm(model: str, in_channels: int = 3, **settings: Any) -> nn.Module:
    """Make a network of timm.

    Args:
        model: Its name there, e.g. "vit_small_patch16_224".
        in_channels: Channels of the images.
        **settings: Of `timm.create_model`, e.g. `pretrained=True`, `num_classes=100`.

    Returns:
        The network, with its stages named and an `InputAdapter` before it.

    Raises:
        UsageError: timm is not installed, or does not know the name.

    Examples:
        >>> import torch
        >>> net = from_timm("resnet18", in_channels=1, num_classes=10)
        >>> net.eval()(torch.rand(2, 1, 8, 8)).shape, net.stages["stage4"]  # resized to 224 pixels
        (torch.Size([2, 10]), 'layer4')
    """
    try:
        import timm
    except ImportError as error:
        raise UsageError(
            what="timm is not installed",
            why=f"the teacher {model} comes from it",
            fix="pip install 'tser-lightning[timm]'",
        ) from error
    if not timm.is_model(model.partition(".")[0]):
        raise _unknown("timm", model, timm.list_models())
    net: nn.Module = timm.create_model(model, in_chans=in_channels, **settings)
    expected: dict[str, Any] = net.pretrained_cfg  # type: ignore[assignment]
    adapt_input(net, in_channels, expected["input_size"][-1], expected["mean"], expected["std"])
    return _with_stages(net)


def from_torchvision(model: str) -> nn.Module:
    """Make a network of torchvision with its newest weights.

    Args:
        model: Its name there, e.g. "resnet34"; its weights are downloaded when they are not at hand.

    Returns:
        The network, with its stages named and an `InputAdapter` before it.

    Raises:
        UsageError: torchvision does not know the name.

    Examples:
        >>> from_torchvision("resnet")
        Traceback (most recent call last):
        tser_lightning.errors.UsageError: torchvision has no network 'resnet'
          why: close to it: resnet50, resnet34, resnet18
          try: another name, e.g. resnet50
    """
    from torchvision import models

    if model not in models.list_models(module=models):
        raise _unknown("torchvision", model, models.list_models(module=models))
    weights = models.get_model_weights(model)["DEFAULT"]
    net: nn.Module = models.get_model(model, weights=weights)
    expected = weights.transforms()
    adapt_input(net, 3, expected.crop_size[0], expected.mean, expected.std)
    return _with_stages(net)


def _unknown(zoo: str, model: str, known: list[str]) -> UsageError:
    close = difflib.get_close_matches(model, known, n=3)
    why = f"close to it: {', '.join(close)}" if close else f"it has {len(known)} networks, none of a name like it"
    return UsageError(f"{zoo} has no network {model!r}", why, f"another name{f', e.g. {close[0]}' if close else ''}")


def _with_stages(net: nn.Module) -> nn.Module:
    """Name the stages of a ResNet or of a vision transformer as those of our networks are named."""
    stages: dict[str, str] = {}
    parts = dict(net.named_children())
    blocks = parts.get("blocks")
    if "layer4" in parts:
        stages = {f"stage{index}": f"layer{index}" for index in range(1, 5)}
    elif isinstance(blocks, nn.Sequential) and "norm" in parts and len(blocks) >= 4:
        # The last stage is what the classifier sees: the tokens of the last block after the final norm. BKDSNN compares
        # with its class token.
        stages = {f"stage{index}": f"blocks.{index * len(blocks) // 4 - 1}" for index in range(1, 4)}
        stages["stage4"] = "norm"
    net.stages = stages  # type: ignore[assignment]
    return net


def vit(
    num_classes: int,
    in_channels: int = 3,
    activation: Factory = relu,
    norm: Factory = nn.BatchNorm2d,
    *,
    model: str = "vit_small_patch16_224",
) -> nn.Module:
    """Vision transformer of timm (Dosovitskiy et al., ICLR 2021), untrained; it has GELUs and LayerNorms of its own.

    ViT-S/16 for 100 classes: 21,704,164 parameters. Images of any size are resized to the one in its name.

    Args:
        num_classes: Outputs of the head, C.
        in_channels: Channels of the images.
        activation: Not used: it has GELUs.
        norm: Not used: it has LayerNorms.
        model: Its name in timm, which holds size and patches.

    Returns:
        A network, images [N, in_channels, H, W] of any size to logits [N, num_classes].

    Raises:
        UsageError: timm is not installed, or does not know the name.

    Examples:
        >>> import torch
        >>> with torch.device("meta"):  # shapes alone
        ...     net = vit(100)
        >>> sum(parameter.numel() for parameter in net.parameters())
        21704164
    """
    net = from_timm(model, in_channels, num_classes=num_classes, pretrained=False)
    net.penultimate = "head"  # type: ignore[assignment]
    return net


def begin_from(net: nn.Module, theirs: nn.Module, name: str) -> None:
    """Copy all weights of the same network but those of a classifier of other classes, to fine-tune them.

    Args:
        net: Is changed; its classifier is `net.penultimate`.
        theirs: The network that has the weights.
        name: Of the weights, for the message.

    Raises:
        UsageError: They are no weights of this network.

    Examples:
        >>> import torch
        >>> from tser_lightning.models import resnet_small
        >>> mine, theirs = resnet_small(10), resnet_small(100)  # the classifier alone differs
        >>> begin_from(mine, theirs, "theirs.pt")
        >>> torch.equal(mine.conv1.weight, theirs.conv1.weight), mine.fc.out_features
        (True, 10)
    """
    own = net.state_dict()
    fitting = {key: value for key, value in theirs.state_dict().items() if key in own and own[key].shape == value.shape}
    head = str(getattr(net, "penultimate", "fc"))
    odd = sorted(key for key in own.keys() - fitting.keys() if not key.startswith(f"{head}."))
    if odd:
        raise UsageError(
            what=f"start={name} does not fit the teacher: {len(odd)} tensors differ, e.g. {odd[0]}",
            why="training begins from all weights of the same network but its classifier",
            fix="start=random, or the name of the same network",
        )
    net.load_state_dict(fitting, strict=False)
