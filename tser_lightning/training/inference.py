"""A frozen network made ready to answer fast, by what changes no answer but for rounding."""

import torch
from torch import Tensor, nn

from tser_lightning.models.folding import fold_norms
from tser_lightning.models.memory_format import lay_out


@torch.no_grad()
def for_inference(net: nn.Module, images_BCHW: Tensor, channels_last: bool = True) -> nn.Module:
    """Copy a network in eval mode, with batch norms folded into the convolutions before them and laid out.

    Args:
        net: The network; it is not changed.
        images_BCHW: Some images of the right size; on them the copy must answer as the network does.
        channels_last: How its maps lie in memory; see `lay_out`.

    Returns:
        The copy; see `fold_norms`.
    """
    folded = fold_norms(net, images_BCHW)
    lay_out(folded, images_BCHW, images_BCHW.device, channels_last)
    return folded
