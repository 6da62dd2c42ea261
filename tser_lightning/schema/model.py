"""The settings of the architectures, of students and teachers alike."""

from typing import Annotated, Literal

from pydantic import Field

from tser_lightning.schema.setting import Count, Settings, Text, UnitIntervalOpenAbove, about

ROOM = "tser_lightning.models."
Steps = Annotated[int, Field(ge=1, le=1000)]
Widths = Annotated[list[Annotated[int, Field(ge=1, le=65536)]], Field(min_length=1)]


class StudentSettings(Settings, group="student"):
    """What a student has beside the settings of its architecture."""

    timesteps: Steps = about("T, the steps that it computes")
    weights: Text | None = about(
        "where it starts from: null (fresh), FILE, teacher (its ANN twin), run:DIR, published:NAME", default=None
    )


class WithAttentionSettings(Settings):
    """A CNN that may weigh its feature maps over time."""

    attention: Literal["pfa", "pfa_input"] | None = about(
        "pfa: weights over time, channels and space after every stage; pfa_input: on the input too"
    )
    attention_rank: Count = about("of PFA; its public code: 64, and 8 for its event data")
    attention_timesteps: Count = about("steps that PFA learns weights for")


class ResNetSettings(WithAttentionSettings, targets=tuple(f"{ROOM}{name}" for name in ("resnet34", "resnet50"))):
    """ResNet with the activation after the addition."""

    stem: Literal["cifar", "imagenet"] = about("cifar (3x3, stride 1) or imagenet (7x7, stride 2, max-pool)")


class ResNet18Settings(ResNetSettings, targets=(f"{ROOM}resnet18",)):
    """ResNet-18."""

    variant: Literal["standard", "glif"] = about(
        "standard, or glif (a norm on all shortcuts, a larger second stage, no bias in the classifier)",
        default="standard",
    )


class PreactResNetSettings(ResNetSettings, targets=(f"{ROOM}preact_resnet34",)):
    """ResNet with the activation before each convolution."""


class ResNet19Settings(WithAttentionSettings, targets=(f"{ROOM}resnet19",)):
    """ResNet-19."""

    variant: Literal["group", "tet", "mpbn", "glif"] = about(
        "group (TSER's), tet (stem of 64), mpbn (no hidden layer) or glif (a norm on all shortcuts)"
    )


class SmallResNetSettings(WithAttentionSettings, targets=(f"{ROOM}resnet_small",)):
    """Three stages of one block."""

    widths: Widths = about("channels of the three stages")


class SmallCNNSettings(WithAttentionSettings, targets=(f"{ROOM}cnn_small",)):
    """Three convolutions."""

    widths: Widths = about("channels of the three convolutions")
    grid: Count = about("side of the map that the classifier sees: image side / 4, or less")


class SEWResNetSettings(WithAttentionSettings, targets=tuple(f"{ROOM}sew_resnet{depth}" for depth in (18, 34, 50))):
    """Spike-element-wise ResNet."""

    stem: Literal["cifar", "imagenet"] = about("cifar (3x3, stride 1) or imagenet (7x7, stride 2, max-pool)")
    connect: Literal["add", "and", "iand"] = about("how the spikes of a branch meet those of its shortcut")


class MSResNetSettings(WithAttentionSettings, targets=tuple(f"{ROOM}ms_resnet{depth}" for depth in (18, 34))):
    """Membrane-shortcut ResNet."""

    stem: Literal["cifar", "imagenet"] = about("cifar (3x3, stride 1) or imagenet (stride 2, no pooling)")


class MSResNet104Settings(MSResNetSettings, targets=(f"{ROOM}ms_resnet104",)):
    """MS-ResNet-104."""

    dropout: UnitIntervalOpenAbove = about("share of the pooled features that is dropped in training")


class MaxResNetSettings(WithAttentionSettings, targets=(f"{ROOM}max_resnet18",)):
    """Max-ResNet-18."""


class VGGSettings(WithAttentionSettings, targets=tuple(f"{ROOM}{name}" for name in ("vgg11", "vgg16", "vgg_small"))):
    """VGG."""


class TransformerSettings(Settings, targets=tuple(f"{ROOM}{name}" for name in ("spikformer", "sdt", "qkformer"))):
    """A spiking transformer."""

    depth: Count = about("blocks")
    dim: Count = about("channels of a token")
    heads: Count = about("of the attention")
    patch_size: Count = about("pixels of a token's side: 4 for CIFAR, 16 for ImageNet")


class SpikingformerSettings(TransformerSettings, targets=(f"{ROOM}spikingformer",)):
    """Spikingformer."""

    cml: bool = about("true: pool before the neuron in the tokenizer")


class MetaSpikeformerSettings(Settings, targets=(f"{ROOM}meta_spikeformer",)):
    """Meta-SpikeFormer."""

    dim: Count = about("channels of a token of the stage before the last")
    last_dim: Count = about("channels of a token of the last stage")
    heads: Count = about("of the attention")


class ViTSettings(Settings, targets=(f"{ROOM}vit",)):
    """A vision transformer of timm."""

    model: Text = about("timm's name")
