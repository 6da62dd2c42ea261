import torch

from tser_lightning.data.random_numbers import Stream, draw, sample_keys

_WORD = (1 << 64) - 1


def _mixed(bits: int) -> int:
    bits = (bits + 0x9E3779B97F4A7C15) & _WORD
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _WORD
    return bits ^ (bits >> 31)


def test_mixing_is_the_published_splitmix64() -> None:
    # First output of SplitMix64 from state 0, as in the reference implementation of Vigna.
    assert _mixed(0) == 0xE220A8397B1DCDAF


def test_keys_and_draws_equal_unbounded_integer_arithmetic() -> None:
    for seed, epoch, index, high in [(0, 0, 0, 9), (60, 299, 49_999, 32), (2**40, 7, 1_281_166, 1 << 31)]:
        key = _mixed((_mixed((_mixed(seed) + epoch) & _WORD) + index) & _WORD)
        expected = ((_mixed(key ^ _mixed(Stream.FLIP)) >> 33) * high) >> 31

        keys_B = sample_keys(seed, epoch, torch.tensor([index]))

        assert int(keys_B) & _WORD == key
        assert draw(keys_B, Stream.FLIP, high).item() == expected


def test_draws_are_uniform_and_streams_are_independent() -> None:
    keys_B = sample_keys(1, 2, torch.arange(90_000))
    rows, columns = draw(keys_B, Stream.CROP_ROW, 9), draw(keys_B, Stream.CROP_COLUMN, 9)

    cells = torch.bincount(rows * 9 + columns, minlength=81).double()
    expected = 90_000 / 81

    # Chi-squared with 80 degrees of freedom: mean 80, standard deviation 12.6.
    assert ((cells - expected) ** 2 / expected).sum() < 80 + 5 * 12.6
