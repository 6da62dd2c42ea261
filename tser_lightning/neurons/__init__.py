"""What a student is made of: neurons, their surrogate gradients, and the clock that they share."""

from tser_lightning.neurons.clock import Clock, OverTime
from tser_lightning.neurons.lif import lif
from tser_lightning.neurons.neuron import IF, LIF, PLIF, Neuron
from tser_lightning.neurons.surrogate import SURROGATES

__all__ = ["IF", "LIF", "PLIF", "SURROGATES", "Clock", "Neuron", "OverTime", "lif"]
