import pytest
import torch

from tser_lightning.losses.feature_maps import as_map, pooled, same_size


def test_tokens_become_the_square_image_that_they_were_cut_from() -> None:
    image_BCHW = torch.arange(2 * 3 * 4 * 4.0).reshape(2, 3, 4, 4)
    tokens_BNC = torch.stack([image_BCHW[:, :, n // 4, n % 4] for n in range(16)], dim=1)
    assert torch.equal(as_map(tokens_BNC), image_BCHW)
    class_token_B1C = torch.full((2, 1, 3), -1.0)
    assert torch.equal(as_map(torch.cat([class_token_B1C, tokens_BNC], dim=1)), image_BCHW)


def test_what_has_no_place_in_an_image_becomes_one_pixel() -> None:
    assert as_map(torch.ones(2, 3)).shape == (2, 3, 1, 1)
    tokens_BNC = torch.randn(2, 7, 3)
    torch.testing.assert_close(as_map(tokens_BNC)[..., 0, 0], tokens_BNC.mean(1))
    assert as_map(torch.ones(2, 1, 3)).shape == (2, 3, 1, 1)


def test_pooling_takes_the_class_token_or_the_mean() -> None:
    tokens_BNC = torch.randn(2, 17, 3)
    assert torch.equal(pooled(tokens_BNC), tokens_BNC[:, 0])
    torch.testing.assert_close(pooled(tokens_BNC[:, 1:]), tokens_BNC[:, 1:].mean(1))
    maps_BCHW = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(pooled(maps_BCHW), maps_BCHW.mean((2, 3)))
    assert torch.equal(pooled(maps_BCHW[..., 0, 0]), maps_BCHW[..., 0, 0])


def test_the_larger_map_is_averaged_to_the_size_of_the_smaller() -> None:
    left_BCHW, right_BCHW = torch.randn(2, 3, 8, 4), torch.randn(2, 5, 4, 4)
    left, right = same_size(left_BCHW, right_BCHW)
    assert right is right_BCHW
    expected = [[left_BCHW[0, 1, 2 * i : 2 * i + 2, j].mean() for j in range(4)] for i in range(4)]
    torch.testing.assert_close(left[0, 1], torch.tensor(expected))
    left, right = same_size(torch.ones(2, 3, 7, 7), torch.ones(2, 5, 4, 8))
    assert (left.shape, right.shape) == ((2, 3, 4, 7), (2, 5, 4, 7))


def test_a_feature_of_another_rank_is_named() -> None:
    with pytest.raises(ValueError, match=r"but is \[2, 3, 4, 5, 6\]"):
        as_map(torch.zeros(2, 3, 4, 5, 6))
