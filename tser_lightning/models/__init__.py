"""Architectures, each written once: its activation makes it an ANN (ReLU) or a spiking network (a neuron)."""

from tser_lightning.models.activation import relu
from tser_lightning.models.network import Network, Parts
from tser_lightning.models.resnet import resnet18, resnet19, resnet34, resnet_small
from tser_lightning.models.student import Student
from tser_lightning.models.vgg import vgg11, vgg16, vgg_small

__all__ = [
    "Network",
    "Parts",
    "Student",
    "relu",
    "resnet18",
    "resnet19",
    "resnet34",
    "resnet_small",
    "vgg11",
    "vgg16",
    "vgg_small",
]
