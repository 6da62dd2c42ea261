import torch

from tser_lightning.losses.projection import Projection


def test_is_made_once_from_the_first_shapes() -> None:
    projection = Projection()
    assert not list(projection.parameters())
    feature_BCHW = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    first = projection(feature_BCHW, 5)
    assert projection.conv is not None
    expected = torch.einsum("oi,bihw->bohw", projection.conv.weight[..., 0, 0], feature_BCHW)
    torch.testing.assert_close(first, expected + projection.conv.bias[:, None, None])  # type: ignore[index]
    assert torch.equal(projection(feature_BCHW, 5), first)


def test_a_state_is_loaded_after_the_first_call() -> None:
    feature_BCHW = torch.randn(2, 3, 4, 4)
    trained, fresh = Projection(), Projection()
    expected = trained(feature_BCHW, 5)
    fresh(torch.zeros(1, 3, 4, 4), 5)
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(feature_BCHW, 5), expected)


def test_keeps_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Projection()(torch.randn(2, 3, 4, 4), 5).dtype == torch.float32
