"""The spiking transformers against SpikingJelly's, and against a loop over time where it has none."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tser_lightning.models import Network, Student, sdt, spikformer, spikingformer
from tser_lightning.models.network import Parts
from tser_lightning.models.spikformer import SpikformerBlock
from tser_lightning.models.transformer import attend, poolings
from tser_lightning.neurons import LIF

CIFAR: list[tuple[Callable[..., Network], int, int, int, int]] = [  # depth, dim, counts for 10 and 100 classes
    (spikformer, 4, 256, 4_159_274, 4_182_404),
    (spikformer, 2, 384, 5_768_122, 5_802_772),
    (spikformer, 4, 384, 9_330_874, 9_365_524),
    (spikingformer, 4, 256, 4_156_202, 4_179_332),
    (spikingformer, 2, 384, 5_765_818, 5_800_468),
    (spikingformer, 4, 384, 9_326_266, 9_360_916),
    (sdt, 2, 512, 10_233_546, 10_279_716),
]
IMAGENET: list[tuple[Callable[..., Network], int, int, int]] = [
    (sdt, 8, 384, 16_816_536),
    (sdt, 6, 512, 23_373_736),
    (sdt, 8, 512, 29_689_896),
    (sdt, 8, 768, 66_339_144),
    (spikformer, 8, 384, 16_828_312),
    (spikformer, 6, 512, 23_385_640),
    (spikformer, 8, 512, 29_705_768),
    (spikformer, 8, 768, 66_363_208),
]


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(("build", "depth", "dim", "count_10", "count_100"), CIFAR)
def test_parameter_counts_for_cifar(
    build: Callable[..., Network], depth: int, dim: int, count_10: int, count_100: int
) -> None:
    with torch.device("meta"):
        for activation in ({}, {"activation": LIF}):
            assert parameters(build(10, depth=depth, dim=dim, heads=8, **activation)) == count_10
            assert parameters(build(100, depth=depth, dim=dim, heads=8, **activation)) == count_100


@pytest.mark.parametrize(("build", "depth", "dim", "count"), IMAGENET)
def test_parameter_counts_for_imagenet(build: Callable[..., Network], depth: int, dim: int, count: int) -> None:
    with torch.device("meta"):
        assert parameters(build(1000, 3, LIF, depth=depth, dim=dim, heads=8, patch_size=16)) == count


def test_parameter_counts_of_the_event_network_and_of_cml() -> None:
    with torch.device("meta"):
        assert parameters(spikingformer(10, 2, LIF, depth=2, dim=256, heads=8)) == 2_568_714
        assert parameters(spikingformer(10, 3, LIF, depth=4, dim=384, cml=True)) == 9_326_266


def test_attention_equals_one_softmaxless_product_per_head() -> None:
    q, k, v = torch.randint(0, 2, (3, 2, 6, 2, 4)).double()
    expected = torch.zeros(2, 6, 8, dtype=torch.float64)
    for image in range(2):
        for head in (slice(0, 3), slice(3, 6)):
            q_Ld, k_Ld, v_Ld = (x[image, head].flatten(1).T for x in (q, k, v))
            expected[image, head] = ((q_Ld @ k_Ld.T) @ v_Ld * 0.125).T
    assert torch.equal(attend(q, k, v, heads=2).flatten(2), expected)
    q, k, v = (x.to(memory_format=torch.channels_last) for x in (q, k, v))
    assert torch.equal(attend(q, k, v, heads=2).flatten(2), expected)


def layers(net: nn.Module) -> Iterator[nn.Module]:
    """Convolutions, norms and linear layers that are used, in order."""
    for name, module in net.named_modules():
        kinds = (nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.Linear)
        if isinstance(module, kinds) and "talking_heads" not in name:
            yield module


def lively(net: nn.Module) -> nn.Module:
    """In float64, with norms of which neurons fire and convolutions without bias (SpikingJelly's differ there)."""
    for module in layers(net.double().eval()):
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, 0, 1)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


def copy_layer(target: nn.Module, *sources: nn.Module) -> None:
    """Fill a layer, or three that are one in the other implementation."""
    for name, tensor in [*target.named_parameters(), *target.named_buffers()]:
        if not any(name in dict([*s.named_parameters(), *s.named_buffers()]) for s in sources):
            nn.init.zeros_(tensor)  # a bias that the source does not have
        elif tensor.dim():
            parts: list[Tensor] = [getattr(source, name) for source in sources]
            tensor.data.copy_(torch.cat(parts).view_as(tensor))


def test_spike_driven_transformer_equals_spikingjelly() -> None:
    theirs_module = pytest.importorskip("spikingjelly.activation_based.model.spike_driven_transformer")
    torch.manual_seed(0)
    ours = lively(sdt(5, 3, LIF, depth=2, dim=32, heads=4, patch_size=4))
    theirs = theirs_module.SpikeDrivenTransformer(3, 3, 5, 32, 4, 2, pooling_stat="0011").double().eval()
    for target, source in zip(layers(theirs), layers(ours), strict=True):
        copy_layer(target, source)
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        logits_TBC = Student(ours, 3)(images)
        torch.testing.assert_close(logits_TBC.mean(0), theirs(images))
    assert not torch.equal(logits_TBC[1], logits_TBC[2])


def test_spikformer_block_equals_spikingjelly() -> None:
    theirs_module = pytest.importorskip("spikingjelly.activation_based.model.spikformer")
    functional = pytest.importorskip("spikingjelly.activation_based.functional")
    torch.manual_seed(0)
    ours = lively(SpikformerBlock(16, 4, Parts(LIF)))
    theirs = theirs_module.SpikformerBlock(16, 4).double().eval()
    functional.set_step_mode(theirs, "m")
    (q, q_bn, k, k_bn, v, v_bn, *rest), (qkv, qkv_bn, *their_rest) = layers(ours), layers(theirs)
    copy_layer(qkv, q, k, v)
    copy_layer(qkv_bn, q_bn, k_bn, v_bn)
    for target, source in zip(their_rest, rest, strict=True):
        copy_layer(target, source)
    spikes_TBCHW = torch.randint(0, 2, (3, 2, 16, 4, 4)).double()
    with torch.no_grad():
        out_TBD = Student(nn.Sequential(ours, nn.Flatten()), 3)(spikes_TBCHW)
        torch.testing.assert_close(out_TBD, theirs(spikes_TBCHW).flatten(2))
    assert out_TBD.max() > 1  # sums of spikes


class Loop:
    """LIF neurons one step at a time; a neuron is known by the order in which it is called."""

    def __init__(self) -> None:
        self.membranes: dict[int, Tensor] = {}
        self.calls = 0

    def __call__(self, x: Tensor, v_threshold: float = 1.0) -> Tensor:
        charged = 0.5 * self.membranes.get(self.calls, torch.zeros(())) + 0.5 * x
        spikes = (charged >= v_threshold).double()
        self.membranes[self.calls] = charged * (1 - spikes)
        self.calls += 1
        return spikes


@pytest.mark.parametrize("cml", [False, True])
def test_spikingformer_equals_a_loop_over_time(cml: bool) -> None:
    torch.manual_seed(0)
    net = lively(spikingformer(5, 3, LIF, depth=2, dim=16, heads=4, cml=cml))
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    fire = Loop()
    *convs_and_norms, head = layers(net)

    def step(x: Tensor) -> Tensor:
        pairs = iter(zip(convs_and_norms[::2], convs_and_norms[1::2], strict=True))

        def conv_norm(x: Tensor) -> Tensor:
            conv, norm = next(pairs)
            return norm(conv(x))  # type: ignore[no-any-return]

        x = conv_norm(x)
        for pools in (False, False, True, True):
            if pools and cml:
                x = fire(nn.functional.max_pool2d(x, 3, 2, 1))
            elif pools:
                x = nn.functional.max_pool2d(fire(x), 3, 2, 1)
            else:
                x = fire(x)
            x = conv_norm(x)
        for _ in range(2):
            spikes = fire(x)
            q, k, v = (fire(conv_norm(spikes)).view(2, 4, 4, 16) for _ in range(3))
            similarity = torch.einsum("bhdn,bhdm->bhnm", q, k)
            attention = torch.einsum("bhnm,bhdm->bhdn", similarity, v) * 0.125
            x = x + conv_norm(fire(attention.reshape(2, 16, 4, 4), 0.5))
            x = x + conv_norm(fire(conv_norm(fire(x))))
        return head(x.mean((2, 3)))  # type: ignore[no-any-return]

    with torch.no_grad():
        logits_TBC = Student(net, 3)(images)
        for logits_BC in logits_TBC:
            fire.calls = 0
            torch.testing.assert_close(logits_BC, step(images))
    assert not torch.equal(logits_TBC[1], logits_TBC[2])


@pytest.mark.parametrize(("patch_size", "pooled"), [(1, 0), (4, 2), (16, 4)])
def test_the_last_convolutions_pool(patch_size: int, pooled: int) -> None:
    assert [isinstance(pool, nn.MaxPool2d) for pool in poolings(patch_size)] == [False] * (4 - pooled) + [True] * pooled


def test_what_the_public_code_never_calls_is_frozen() -> None:
    frozen = [
        name
        for name, parameter in spikformer(10, depth=1, dim=16, heads=2).named_parameters()
        if not parameter.requires_grad
    ]
    assert frozen == ["block.0.norm1.weight", "block.0.norm1.bias", "block.0.norm2.weight", "block.0.norm2.bias"]


@pytest.mark.parametrize("wrong", [{"heads": 5}, {"patch_size": 3}, {"dim": 12, "heads": 1}])
@pytest.mark.parametrize("build", [spikformer, spikingformer, sdt])
def test_impossible_sizes_are_refused(build: Callable[..., Network], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(wrong))}="):
        build(10, **wrong)
