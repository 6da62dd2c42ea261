"""What a student is made of: neurons, their surrogate gradients, and the clock that they share."""

from tser_lightning.kernels.fire import fire
from tser_lightning.kernels.lif import lif
from tser_lightning.kernels.surrogate import SURROGATES
from tser_lightning.neurons.clock import Clock, OverTime
from tser_lightning.neurons.glif import GLIF
from tser_lightning.neurons.ilif import ILIF
from tser_lightning.neurons.im_lif import IMLIF
from tser_lightning.neurons.lsg import LSG
from tser_lightning.neurons.membranes import membranes
from tser_lightning.neurons.mpbn import MPBN
from tser_lightning.neurons.neuron import IF, LIF, PLIF, Neuron
from tser_lightning.neurons.pfa import PFA
from tser_lightning.neurons.qcfs import QCFS

__all__ = [
    "GLIF",
    "IF",
    "ILIF",
    "IMLIF",
    "LIF",
    "LSG",
    "MPBN",
    "PFA",
    "PLIF",
    "QCFS",
    "SURROGATES",
    "Clock",
    "Neuron",
    "OverTime",
    "fire",
    "lif",
    "membranes",
]
