"""The names under which published code saves its networks, and what they are called here.

A layout is found by the keys of a state_dict. It says which architecture and which neurons compute the same numbers.
Sources, each read in its public code: SEW-ResNet (fangwei123456/Spike-Element-Wise-ResNet, imagenet/), Spikformer
(ZK-Zhou/spikformer), Spikingformer (zhouchenlin2096/Spikingformer), CML (zhouchenlin2096/Spikingformer-CML), BKDSNN
(Intelligent-Computing-Research-Group/BKDSNN), Spike-driven Transformer (BICLab/Spike-Driven-Transformer). SpikingJelly
2.0 and torchvision have the names that our ResNets have.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

State = Mapping[str, Tensor]

IF_NEURON = {"decay": 1.0, "decay_input": False, "v_threshold": 1.0, "reset": "hard"}
LIF_NEURON = {"decay": 0.5, "decay_input": True, "v_threshold": 1.0, "reset": "hard"}
IF_TRAINED = {"surrogate": "atan", "detach_reset": True}
LIF_TRAINED = {"surrogate": "sigmoid", "detach_reset": True}


@dataclass(frozen=True)
class CheckpointLayout:
    """The parameter names of a published network, and how they map to ours.

    Attributes:
        name: Of the code that saves them.
        mark: Pattern of the name of a tensor that this layout has and no other; what stands before it is a prefix.
        family: The function in `tser_lightning.models` that makes the network, without its size.
        rules: Patterns of names below the prefix, and what the matches become; the first that fits holds.
        neuron: The settings of `neuron=` that change what the network computes.
        trained: Those that changed its gradients alone.
        settings: Of `student=`, as far as the names tell them.
        untold: What changes the numbers and cannot be seen in the file.
        beside: Name of a tensor that has to be there too, where the mark does not tell two layouts apart.
        zeros: Pattern of our names that the published network lacks and that are zero then.
    """

    name: str
    mark: str
    family: str
    rules: tuple[tuple[str, str], ...]
    neuron: Mapping[str, Any] = field(default_factory=lambda: LIF_NEURON)
    trained: Mapping[str, Any] = field(default_factory=lambda: LIF_TRAINED)
    settings: Mapping[str, Any] = field(default_factory=dict)
    untold: str = ""
    beside: str = ""
    zeros: str = r"(?!)"

    def prefixes(self, state: State) -> list[str]:
        """What stands before the names in a state_dict; empty if they are not of this layout."""
        pattern = re.compile(rf"(^|.*\.)(?:{self.mark})$")
        found = (pattern.match(name) for name in state)
        return list(dict.fromkeys(m[1] for m in found if m and (not self.beside or f"{m[1]}{self.beside}" in state)))

    def renamed(self, state: State, own: State) -> dict[str, Tensor]:
        """Rename the tensors of a state_dict to our names.

        Args:
            state: A state_dict of this layout, perhaps below prefixes, which stay.
            own: That of our network: weights of linear layers and of 1-dimensional convolutions get its shapes.
        """
        renamed = {}
        for prefix in self.prefixes(state):
            inside = {self._ours(name.removeprefix(prefix)): v for name, v in state.items() if name.startswith(prefix)}
            for name, value in own.items():
                if name not in inside and re.fullmatch(self.zeros, name):
                    inside[name] = value.new_zeros(value.shape)
            for name, value in inside.items():
                missing = own[name].ndim - value.ndim if name in own else 0
                renamed[f"{prefix}{name}"] = value.reshape([*value.shape, *[1] * max(missing, 0)])
        return renamed

    def _ours(self, name: str) -> str:
        for pattern, ours in self.rules:
            new, count = re.subn(rf"^{pattern}", ours, name)
            if count:
                return new
        return name


_RESIDUAL = (
    (r"(layer\d+\.\d+)\.conv(\d)\.(?:module\.)?0\.", r"\1.conv\2."),
    (r"(layer\d+\.\d+)\.conv(\d)\.(?:module\.)?1\.", r"\1.bn\2."),
)
_HEADS = "the number of heads (student.heads: 12 in its code for CIFAR, 8 in that for ImageNet)"
_SPIKFORMER = (
    (r"patch_embed\.proj_conv\.", "patch_embed.patches.0.0.0."),
    (r"patch_embed\.proj_bn\.", "patch_embed.patches.0.0.1."),
    (r"patch_embed\.proj_conv(\d)\.", r"patch_embed.patches.\1.0.0."),
    (r"patch_embed\.proj_bn(\d)\.", r"patch_embed.patches.\1.0.1."),
    (r"patch_embed\.rpe_conv\.", "patch_embed.position.0."),
    (r"patch_embed\.rpe_bn\.", "patch_embed.position.1."),
    (r"(block\.\d+)\.attn\.(q|k|v|proj)_(?:linear|conv)\.", r"\1.\2.0."),
    (r"(block\.\d+)\.attn\.(q|k|v|proj)_bn\.", r"\1.\2.1."),
    (r"(block\.\d+)\.mlp\.fc1_(?:linear|conv)\.", r"\1.mlp.0.0."),
    (r"(block\.\d+)\.mlp\.fc1_bn\.", r"\1.mlp.0.1."),
    (r"(block\.\d+)\.mlp\.fc2_(?:linear|conv)\.", r"\1.mlp.1.0."),
    (r"(block\.\d+)\.mlp\.fc2_bn\.", r"\1.mlp.1.1."),
)
_PRE_ACTIVATION = (
    (r"(block\.\d+\.attn)\.(q|k|v|proj)_conv\.", r"\1.\2.0."),
    (r"(block\.\d+\.attn)\.(q|k|v|proj)_bn\.", r"\1.\2.1."),
    (r"(block\.\d+)\.mlp\.(?:mlp|fc)1_conv\.", r"\1.mlp.1.0."),
    (r"(block\.\d+)\.mlp\.(?:mlp|fc)1_bn\.", r"\1.mlp.1.1."),
    (r"(block\.\d+)\.mlp\.(?:mlp|fc)2_conv\.", r"\1.mlp.3.0."),
    (r"(block\.\d+)\.mlp\.(?:mlp|fc)2_bn\.", r"\1.mlp.3.1."),
)


def _tokenizer(first: str, later: str) -> Iterator[tuple[str, str]]:
    """The five convolutions of Spikingformer's tokenizer, whose first is called otherwise than the later ones."""
    yield rf"patch_embed\.{first}_conv\.", "patch_embed.stem.0."
    yield rf"patch_embed\.{first}_bn\.", "patch_embed.stem.1."
    for number in range(1, 5):
        yield rf"patch_embed\.{later}{number}_conv\.", f"patch_embed.patches.{number - 1}.2.0."
        yield rf"patch_embed\.{later}{number}_bn\.", f"patch_embed.patches.{number - 1}.2.1."


LAYOUTS = (
    CheckpointLayout(
        "SEW-ResNet",
        r"layer2\.0\.downsample\.0\.(?:module\.)?0\.weight",
        "sew_resnet",
        (*_RESIDUAL, (r"(layer\d+\.\d+\.downsample)\.0\.(?:module\.)?([01])\.", r"\1.\2.")),
        neuron=IF_NEURON,
        trained=IF_TRAINED,
        untold="how spikes meet their shortcut (student.connect)",
    ),
    CheckpointLayout(
        "the spiking ResNet beside SEW-ResNet",
        r"layer2\.0\.downsample\.module\.0\.weight",
        "resnet",
        (*_RESIDUAL, (r"(layer\d+\.\d+\.downsample)\.module\.([01])\.", r"\1.\2.")),
        neuron=IF_NEURON,
        trained=IF_TRAINED,
    ),
    CheckpointLayout(
        "Spikformer for CIFAR",
        r"block\.0\.attn\.q_linear\.weight",
        "spikformer",
        _SPIKFORMER,
        settings={"patch_size": 4},
        untold=_HEADS,
    ),
    CheckpointLayout(
        "Spike-driven Transformer",
        r"block\.0\.mlp\.fc1_conv\.weight",
        "sdt",
        (
            (r"patch_embed\.proj_conv\.", "patch_embed.patches.0.0."),
            (r"patch_embed\.proj_bn\.", "patch_embed.patches.0.1."),
            (r"patch_embed\.proj_conv(\d)\.", r"patch_embed.patches.\1.0."),
            (r"patch_embed\.proj_bn(\d)\.", r"patch_embed.patches.\1.1."),
            (r"patch_embed\.rpe_conv\.", "patch_embed.position.1.0."),
            (r"patch_embed\.rpe_bn\.", "patch_embed.position.1.1."),
            *_PRE_ACTIVATION,
        ),
        beside="block.0.attn.talking_heads.weight",
        untold="how often its tokenizer pools (student.patch_size: 4 for its pooling_stat 0011, 16 for 1111)",
    ),
    CheckpointLayout(
        "Spikingformer for CIFAR",
        r"patch_embed\.block0_conv\.weight",
        "spikingformer",
        (*_tokenizer("block0", "block"), *_PRE_ACTIVATION),
        settings={"patch_size": 4, "cml": False},
        untold=_HEADS,
    ),
    CheckpointLayout(
        "Spikingformer for ImageNet, or Spikingformer with CML",
        r"patch_embed\.proj1_conv\.weight",
        "spikingformer",
        (*_tokenizer("proj", "proj"), *_PRE_ACTIVATION),
        untold=f"where it pools (student.cml: both codes use these names) and {_HEADS}",
    ),
    CheckpointLayout(
        "Spikformer for ImageNet",
        r"block\.0\.mlp\.fc1_conv\.weight",
        "spikformer",
        _SPIKFORMER,
        settings={"patch_size": 16},
        untold=_HEADS,
        zeros=r"block\.\d+\.[qkv]\.0\.bias",
    ),
)


def layout_of(state: State) -> CheckpointLayout | None:
    """Find the layout of a state_dict by its names; None if it is none of these."""
    return next((layout for layout in LAYOUTS if layout.prefixes(state)), None)
