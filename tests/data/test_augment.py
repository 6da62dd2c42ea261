import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from tser_lightning.data.augment import Augment, crop_and_flip, cutout, erase
from tser_lightning.data.random_numbers import Stream, draw, sample_keys


def _images(batch: int = 12, channels: int = 3, height: int = 9, width: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (batch, channels, height, width), dtype=torch.uint8, generator=generator)


_KEYS_B = sample_keys(5, 2, torch.arange(12))


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("padding", [0, 3])
def test_crop_and_flip_equal_a_loop_over_pixels(padding: int, flip: bool) -> None:
    images_BCHW = _images()
    B, _, H, W = images_BCHW.shape
    expected = torch.zeros_like(images_BCHW)
    tops = draw(_KEYS_B, Stream.CROP_ROW, 2 * padding + 1).tolist()
    lefts = draw(_KEYS_B, Stream.CROP_COLUMN, 2 * padding + 1).tolist()
    flips = draw(_KEYS_B, Stream.FLIP, 2).tolist()
    for b in range(B):
        for row in range(H):
            for column in range(W):
                source_row = row + tops[b] - padding
                source_column = (W - 1 - column if flip and flips[b] else column) + lefts[b] - padding
                if 0 <= source_row < H and 0 <= source_column < W:
                    expected[b, :, row, column] = images_BCHW[b, :, source_row, source_column]

    assert torch.equal(crop_and_flip(images_BCHW, _KEYS_B, padding, flip), expected)
    assert 0 < sum(flips) < B


@pytest.mark.parametrize("size", [4, 5, 20])
def test_cutout_equals_a_loop_over_pixels(size: int) -> None:
    images_BCHW = _images().float()
    B, _, H, W = images_BCHW.shape
    expected = images_BCHW.clone()
    for b in range(B):
        middle_row = int(draw(_KEYS_B, Stream.CUTOUT_ROW, H)[b])
        middle_column = int(draw(_KEYS_B, Stream.CUTOUT_COLUMN, W)[b])
        for row in range(max(0, middle_row - size // 2), min(H, middle_row - size // 2 + size)):
            for column in range(max(0, middle_column - size // 2), min(W, middle_column - size // 2 + size)):
                expected[b, :, row, column] = 0

    assert torch.equal(cutout(images_BCHW, _KEYS_B, size), expected)


def test_erased_rectangles_have_timms_shapes() -> None:
    # Each rectangle against torchvision's, told timm's limits; 4000 of both: areas and heights over widths alike on
    # average, all inside.
    images_BCHW = torch.ones(4000, 1, 24, 16)
    ours = erase(images_BCHW, sample_keys(1, 0, torch.arange(4000)), 1.0)
    reference = v2.RandomErasing(1.0, scale=(0.02, 1 / 3), ratio=(0.3, 1 / 0.3))
    torch.manual_seed(0)
    theirs = torch.stack([reference(image) for image in images_BCHW])

    def shapes(images: Tensor) -> tuple[Tensor, Tensor]:
        hole = images[:, 0] == 0
        heights, widths = hole.any(2).sum(1), hole.any(1).sum(1)
        assert torch.equal(hole.flatten(1).sum(1), heights * widths)
        return heights.double(), widths.double()

    for (found, expected), size in zip(zip(shapes(ours), shapes(theirs), strict=True), (24, 16), strict=True):
        assert 1 <= found.min() <= found.max() < size
        assert float(found.mean()) == pytest.approx(
            float(expected.mean()), rel=0.05
        )  # standard deviation of a mean: 1 %
        assert float(found.std()) == pytest.approx(float(expected.std()), rel=0.1)
    middles = (ours[:, 0] == 0).double().mean(0)
    torch.testing.assert_close(middles, middles.flip(0).flip(1), atol=0.05, rtol=0)


def test_erasing_leaves_the_colour_of_the_mean_in_its_share_of_images() -> None:
    images_BCHW = _images(batch=400, height=16, width=16)
    keys_B = sample_keys(0, 0, torch.arange(400))
    plain = Augment([0.4, 0.5, 0.6], [0.2, 0.3, 0.4])(images_BCHW, keys_B)

    found = Augment([0.4, 0.5, 0.6], [0.2, 0.3, 0.4], erasing=0.25)(images_BCHW, keys_B)

    changed = found != plain
    assert (found[changed] == 0).all()
    # Binomial with 400 tries of 0.25: standard deviation 8.7.
    assert 100 - 44 < changed.flatten(1).any(1).sum() < 100 + 44


def test_steps_run_in_the_order_of_the_papers_group() -> None:
    images_BCHW = _images(height=16, width=16)
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    found = Augment(mean, std, crop=2, flip=True, cutout=6)(images_BCHW, _KEYS_B)

    expected = cutout(crop_and_flip(images_BCHW, _KEYS_B, 2, True).float() / 255, _KEYS_B, 6)
    expected = v2.functional.normalize(expected, mean, std)

    torch.testing.assert_close(found, expected)
    # Cutout comes before the normalisation: its zeros are black, not the mean.
    black = torch.tensor([-0.4 / 0.2, -0.5 / 0.3, -0.6 / 0.4])
    row, column = (int(draw(_KEYS_B, stream, 16)[0]) for stream in (Stream.CUTOUT_ROW, Stream.CUTOUT_COLUMN))
    torch.testing.assert_close(found[0, :, row, column], black)


def test_an_image_is_augmented_alike_in_any_batch() -> None:
    augment = Augment([0.5] * 3, [0.2] * 3, crop=2, flip=True, auto="cifar10", rand_ops=1, cutout=4, erasing=0.5)
    images_BCHW = _images(height=16, width=16)
    whole = augment(images_BCHW, _KEYS_B)

    backwards = augment(images_BCHW.flip(0), _KEYS_B.flip(0)).flip(0)
    alone = torch.cat([augment(images_BCHW[b : b + 1], _KEYS_B[b : b + 1]) for b in range(12)])

    assert torch.equal(whole, backwards)
    assert torch.equal(whole, alone)


def test_without_keys_images_are_only_normalised() -> None:
    images_BCHW = _images()
    augment = Augment([0.4, 0.5, 0.6], [0.2, 0.3, 0.4], crop=2, flip=True, auto="cifar10", cutout=4)

    expected = v2.functional.normalize(images_BCHW.float() / 255, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4])

    torch.testing.assert_close(augment(images_BCHW, None), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"crop": -1},
        {"cutout": -2},
        {"auto": "cifar100"},
        {"erasing": 2.0},
        {"rand_magnitude": 31},
        {"rand_from": "torchvision"},
        {"std": [0.0]},
        {"std": [1.0, 1.0]},
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must|choose|give"):
        Augment(**({"mean": [0.5], "std": [0.5]} | settings))  # type: ignore[arg-type]
