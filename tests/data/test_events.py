from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tser_lightning.data import EventFrames, check_data, write_prepared
from tser_lightning.data.events import in_train
from tser_lightning.errors import UsageError

_SETTINGS: dict[str, Any] = {
    "num_classes": 2,
    "shape": [2, 6, 5],
    "timesteps": 3,
    "mean": [0.0, 0.1],
    "std": [1.0, 0.5],
}


def _data(root: Path, **settings: Any) -> EventFrames:
    rule: dict[str, Any] = {"recordings": "cifar10_dvs", "split": "per_class_90_10", "path": root, "root": root}
    return EventFrames(**rule | _SETTINGS | {"validation": 0, "batch_size": 4} | settings)


def _write(root: Path) -> torch.Tensor:
    """Write a prepared file and give its counts as [N,T,C,H,W]."""
    counts = torch.randint(0, 256, (8, 3, 2, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = counts.permute(0, 3, 4, 1, 2).flatten(3)
    arrays = {f"{part}_images": images for part in ("train", "test")}
    labels = {f"{part}_labels": torch.arange(8) % 2 for part in ("train", "test")}
    write_prepared(root / "cifar10_dvs-per_class_90_10-t3-6x5.safetensors", arrays | labels)
    return counts


def test_batches_are_frames_with_time_first(tmp_path: Path) -> None:
    counts = _write(tmp_path)
    data = _data(tmp_path)
    check_data({"recordings": "cifar10_dvs", "split": "per_class_90_10", "root": str(tmp_path), **_SETTINGS})

    batch = next(iter(data.loader("test")))

    assert data.name == "cifar10_dvs-per_class_90_10-t3-6x5"
    assert batch.images.shape == (3, 8, 2, 6, 5)
    for step in range(3):
        for polarity, (mean, std) in enumerate([(0.0, 1.0), (0.1, 0.5)]):
            expected = (counts[:, step, polarity].float() / 255 - mean) / std
            torch.testing.assert_close(batch.images[step, :, polarity], expected)


def test_augmentation_moves_all_frames_of_a_recording_alike(tmp_path: Path) -> None:
    counts = _write(tmp_path)
    data = _data(tmp_path, augment={"crop": 2, "flip": True}, mean=[0.0, 0.0], std=[1.0, 1.0])
    batch = next(iter(data.loader("train")))

    together = (batch.images * 255).round().byte()
    alone = _data(tmp_path, augment={"crop": 2, "flip": True}, mean=[0.0, 0.0], std=[1.0, 1.0])
    for step in range(3):
        # The same recordings, but with this frame at every step: nothing may change at this step.
        images = counts[:, step : step + 1].expand(-1, 3, -1, -1, -1).permute(0, 3, 4, 1, 2).flatten(3)
        alone._arrays["train_images"] = images.contiguous()
        found = (next(iter(alone.loader("train"))).images * 255).round().byte()
        assert all(torch.equal(frames, together[step]) for frames in found)


def test_mixup_mixes_recordings_not_steps(tmp_path: Path) -> None:
    _write(tmp_path)
    plain = next(iter(_data(tmp_path).loader("train")))
    mixed = next(iter(_data(tmp_path, mixup={"alpha": 1.0}).loader("train")))

    pairs = (plain.labels != plain.labels.flip(0)).nonzero().flatten()
    for b in pairs.tolist():
        share = mixed.labels[b, plain.labels[b]]
        expected = share * plain.images[:, b] + (1 - share) * plain.images[:, 3 - b]
        torch.testing.assert_close(mixed.images[:, b], expected)
    assert not torch.equal(mixed.images, plain.images)


def test_split_per_class_takes_the_first_nine_tenths_of_each() -> None:
    chosen = in_train(torch.tensor([0] * 10 + [1] * 21), "per_class_90_10")

    # ceil(0.9 * 21) = 19, as in spikingjelly.
    assert chosen.tolist() == [True] * 9 + [False] + [True] * 19 + [False] * 2


def test_random_split_is_nine_tenths_and_never_changes() -> None:
    labels = torch.arange(10_000) % 10
    chosen = in_train(labels, "random_90_10")

    assert chosen.sum() == 9000
    assert torch.equal(chosen, in_train(labels, "random_90_10"))
    assert not torch.equal(chosen, in_train(labels, "per_class_90_10"))


def test_missing_frames_say_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        _data(tmp_path).check()

    assert "task=prepare data=cifar10_dvs" in caught.value.fix


def test_a_split_of_another_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of"):
        _data(tmp_path, split="official")


def test_steps_that_know_only_colours_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 or 3 channels"):
        _data(tmp_path, augment={"auto": "cifar10"})


def _write_gestures(root: Path, person: int, part: str, recordings: int) -> list[np.ndarray[Any, Any]]:
    """Write recordings in the layout of tonic's DVSGesture: rows of x, y, polarity, milliseconds."""
    folder = root / "DVSGesture" / f"ibmGesture{part}"
    (root / "DVSGesture").mkdir(exist_ok=True)
    (root / "DVSGesture" / f"ibmGesture{part}.tar.gz").touch()
    random = np.random.default_rng(person)
    written = []
    for number in range(recordings):
        light = folder / f"user{person:02}_light{number // 11:03}"
        light.mkdir(parents=True, exist_ok=True)
        events = random.integers(0, (128, 128, 2, 1), (40, 4))
        events[:, 3] = np.arange(40)
        np.save(light / f"{number % 11}.npy", events)
        written.append(events)
    return written


def test_gestures_become_counts_of_their_events(tmp_path: Path) -> None:
    pytest.importorskip("tonic")
    # tonic takes a folder with fewer than 100 recordings for a broken download.
    written = {"train": _write_gestures(tmp_path, 1, "Train", 110), "test": _write_gestures(tmp_path, 24, "Test", 110)}
    data = _data(tmp_path, recordings="dvs_gesture", split="official", num_classes=11, timesteps=4, shape=[2, 64, 32])

    assert data.prepare() == f"wrote {tmp_path}/dvs_gesture-official-t4-64x32.safetensors"

    for part in ("train", "test"):
        names = sorted((light, f"{label}.npy") for light in range(10) for label in range(11))
        order = [light * 11 + int(name[:-4]) for light, name in names]
        for place, number in enumerate(order):
            counts = np.zeros((4, 2, 64, 32))
            for place_in_time, (x, y, polarity, _) in enumerate(written[part][number]):
                counts[place_in_time // 10, polarity, y // 2, x // 4] += 1
            assert data.labels(part)[place] == number % 11
            image = data._arrays[f"{part}_images"][place]
            assert np.array_equal(image.permute(2, 0, 1).unflatten(0, (4, 2)).numpy(), counts)
