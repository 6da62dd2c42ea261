"""Batch normalisation, an optional residual and LIF in eager torch: torch's norm, then the neurons block by block.

Legend: T time step, B image, M everything but time, in the order in which it lies in memory.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from tser_lightning.neurons.blocks import backward_blocks, forward_blocks
from tser_lightning.neurons.dynamics import at_rest
from tser_lightning.neurons.layout import Layout
from tser_lightning.neurons.norm_lif import Cell, Form, Gradients, Inputs, through_norm


def norm_forward_eager(inputs: Inputs, cell: Cell, form: Form) -> Tensor:
    """Give the spikes [T*B, C, H, W]."""
    currents_TB = form.over_time(_currents(inputs, form))
    layout = Layout(currents_TB)
    x_TM = layout.matrix(currents_TB)
    spikes_TM, _ = forward_blocks(x_TM, at_rest(x_TM, None), cell.decay, cell.dynamics)
    return layout.unmatrix(spikes_TM).flatten(0, 1)


def norm_backward_eager(inputs: Inputs, cell: Cell, form: Form, grad_NCHW: Tensor, needed: Sequence[bool]) -> Gradients:
    """Give the gradients that are needed."""
    currents_TB = form.over_time(_currents(inputs, form))
    layout = Layout(currents_TB)
    x_TM = layout.matrix(currents_TB)
    grad_TM = layout.matrix(grad_NCHW.unflatten(0, (form.steps, -1)))
    rest = at_rest(x_TM, None)
    found = backward_blocks(x_TM, rest, cell.decay, cell.dynamics, cell.scale, grad_TM, rest, needed[4])
    del currents_TB, x_TM, grad_TM
    grad_TB = layout.unmatrix(found.currents)
    grad_currents = grad_TB.sum(0) if form.static else grad_TB.flatten(0, 1)
    return through_norm(inputs, form, grad_currents, found.decay, needed)


def _currents(inputs: Inputs, form: Form) -> Tensor:
    """What reaches the neurons, in memory of its own."""
    out = F.batch_norm(inputs.y, inputs.mean, inputs.var, inputs.weight, inputs.bias, False, 0.0, form.eps)
    return out if inputs.residual is None else out.add_(inputs.residual)
