import pytest
import torch
from torch import Tensor, nn

from tser_lightning.measure import penultimate_features
from tser_lightning.models.resnet import resnet_small
from tser_lightning.models.student import Student
from tser_lightning.neurons.neuron import LIF


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(n, 1, 8, 8, generator=generator), torch.arange(n)) for n in (3, 2)]


def test_the_classifier_maps_the_features_to_the_logits_of_an_ann() -> None:
    torch.manual_seed(0)
    ann = resnet_small(4, 1)
    features_ND, labels_N = penultimate_features(ann, batches())
    assert ann.training
    ann.eval()
    with torch.no_grad():
        logits = torch.cat([ann(images) for images, _ in batches()])
        torch.testing.assert_close(ann.get_submodule("fc")(features_ND), logits)
    assert labels_N.tolist() == [0, 1, 2, 0, 1]


def test_a_students_features_are_means_over_time() -> None:
    torch.manual_seed(0)
    student = Student(resnet_small(4, 1, LIF), 3).eval()
    features_ND, _ = penultimate_features(student, batches())
    with torch.no_grad():
        logits = torch.cat([student(images).mean(0) for images, _ in batches()])
        torch.testing.assert_close(student.get_submodule("net.fc")(features_ND), logits)


def test_a_network_that_names_no_classifier_has_its_last_linear_layer_taken() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 7), nn.ReLU(), nn.Linear(7, 2))
    assert penultimate_features(net, batches())[0].shape == (5, 7)
    assert penultimate_features(net, batches(), path="1")[0].shape == (5, 64)
    with pytest.raises(ValueError, match="no linear layer"):
        penultimate_features(nn.Flatten(), batches())
