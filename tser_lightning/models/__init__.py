"""Architectures, each written once: its activation makes it an ANN (ReLU) or a spiking network (a neuron)."""

from tser_lightning.models.activation import relu
from tser_lightning.models.bottleneck import resnet50
from tser_lightning.models.cnn import cnn_small
from tser_lightning.models.ensemble import Ensemble
from tser_lightning.models.input_adapter import InputAdapter
from tser_lightning.models.meta_spikeformer import meta_spikeformer
from tser_lightning.models.ms_resnet import max_resnet18, ms_resnet18, ms_resnet34, ms_resnet104
from tser_lightning.models.network import Factory, Network, Parts
from tser_lightning.models.norms import BNTT, TAB, TDBN, TEBN
from tser_lightning.models.preact import preact_resnet34
from tser_lightning.models.qkformer import qkformer
from tser_lightning.models.resnet import resnet18, resnet19, resnet34, resnet_small
from tser_lightning.models.sdt import sdt
from tser_lightning.models.sew import sew_resnet18, sew_resnet34, sew_resnet50
from tser_lightning.models.spikformer import spikformer
from tser_lightning.models.spikingformer import spikingformer
from tser_lightning.models.student import Student
from tser_lightning.models.vgg import vgg11, vgg16, vgg_small
from tser_lightning.models.zoo import begin_from, from_timm, from_torchvision, vit

__all__ = [
    "BNTT",
    "TAB",
    "TDBN",
    "TEBN",
    "Ensemble",
    "Factory",
    "InputAdapter",
    "Network",
    "Parts",
    "Student",
    "begin_from",
    "cnn_small",
    "from_timm",
    "from_torchvision",
    "max_resnet18",
    "meta_spikeformer",
    "ms_resnet18",
    "ms_resnet34",
    "ms_resnet104",
    "preact_resnet34",
    "qkformer",
    "relu",
    "resnet18",
    "resnet19",
    "resnet34",
    "resnet50",
    "resnet_small",
    "sdt",
    "sew_resnet18",
    "sew_resnet34",
    "sew_resnet50",
    "spikformer",
    "spikingformer",
    "vgg11",
    "vgg16",
    "vgg_small",
    "vit",
]
