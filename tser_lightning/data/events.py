"""Recordings of event cameras as frames of event counts."""

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from tser_lightning.data.checks import check_prepared, frames_path
from tser_lightning.data.prepared import Prepared, write_prepared
from tser_lightning.errors import UsageError

_RULES = {"cifar10_dvs": ("per_class_90_10", "random_90_10"), "dvs_gesture": ("official",)}


class EventFrames(Prepared):
    """CIFAR10-DVS or DVS128-Gesture, each recording cut into T frames of equally many events.

    Batches have images [T,B,2,H,W]: the number of events of each polarity at each pixel, over 255. Pixels are merged to
    the size wanted by adding their events. `prepare` builds the frames once, through tonic (GPL, an extra that nothing
    else imports), as a prepared file with the frames behind each other in the channels; counts end at 255. Crop, flip
    and Cutout act alike on all frames of a recording.

    CIFAR10-DVS has no official split, and the two in use are not comparable, so the rule is part of the name:
    "per_class_90_10" is the first 90 % of each class in the order of file names (spikingjelly's rule),
    "random_90_10" a random 90 % of all with seed 42. DVS128-Gesture has the "official" one, by persons.

    Args:
        recordings: "cifar10_dvs" or "dvs_gesture".
        split: The rule: "per_class_90_10" or "random_90_10" for CIFAR10-DVS, "official" for DVS128-Gesture.
        path: tonic's folder; it downloads there what is missing.
        root: Folder of the prepared file.
        timesteps: T, frames of a recording.
        shape: (2, H, W) of a frame: polarities, height, width.
        mean: Of each polarity over the training frames, after division by 255.
        std: Standard deviation of each polarity, likewise.
        settings: Those of `ImageData`.

    Attributes:
        split_rule: The rule, for results.
        timesteps: T; a student must run as many steps.

    Raises:
        ValueError: Recordings that are not known, or a split that they do not have.

    Examples:
        >>> frames = {"timesteps": 16, "shape": [2, 48, 48], "mean": [0, 0], "std": [1, 1], "num_classes": 11}
        >>> images = EventFrames("dvs_gesture", "official", "data/tonic", "data", **frames)
        >>> images.stored_shape, images.split_rule  # `images.prepare()` cuts and writes the frames
        ((32, 48, 48), 'official')
    """

    def __init__(
        self,
        recordings: str,
        split: str,
        path: str | Path,
        root: str | Path,
        timesteps: int,
        shape: Sequence[int],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        **settings: Any,
    ) -> None:
        if split not in _RULES.get(recordings, ()):
            raise ValueError(f"recordings={recordings!r} with split={split!r} is none of {_RULES}")
        file = frames_path(root, recordings, split, timesteps, shape)
        channels, height, width = shape
        super().__init__(
            file,
            shape=(timesteps * channels, height, width),
            mean=list(mean) * timesteps,
            std=list(std) * timesteps,
            **settings,
        )
        self.shape = (channels, height, width)
        self.recordings, self.split_rule, self.timesteps = recordings, split, timesteps
        self.events = Path(path)

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """Give (T*2, H, W): the frames lie behind each other in the channels."""
        return self.timesteps * self.shape[0], self.shape[1], self.shape[2]

    def network_input(self, images_BCHW: Tensor, keys_B: Tensor | None) -> Tensor:
        """Augment all frames of a recording alike and put time first, [T,B,C,H,W]."""
        frames_BTCHW: Tensor = self.augment(images_BCHW, keys_B).unflatten(1, (self.timesteps, -1))
        return frames_BTCHW.transpose(0, 1)

    def check(self) -> None:
        """Raise a `UsageError` if the prepared file is missing or damaged, or does not fit the settings."""
        check_prepared(self.path, self.num_classes, self.stored_shape, download=self.recordings)

    def prepare(self) -> str:
        """Cut tonic's recordings into frames, unless the prepared file is there.

        Raises:
            UsageError: tonic is not installed, its download failed, or the result does not fit the settings.
        """
        try:
            self.check()
        except UsageError:
            write_prepared(self.path, self._frames())
            self.check()
            return f"wrote {self.path}"
        return f"{self.path} is ready"

    def _frames(self) -> dict[str, Tensor]:
        try:
            return split_recordings(self._open(), self.split_rule, self.timesteps, self.shape)
        except ImportError as error:
            raise UsageError(
                "event recordings need tonic, which is not installed",
                "it is GPL and so an extra of its own",
                "pip install 'tser-lightning[events]'",
            ) from error
        except OSError as error:
            raise UsageError(
                f"{self.recordings} could not be read from {self.events}: {error}",
                "tonic downloads what is not there, and its server is out of reach or a file is damaged",
                "the command again later, or put tonic's files there",
            ) from error

    def _open(self) -> dict[str, Any]:
        datasets = import_module("tonic.datasets")
        if self.recordings == "cifar10_dvs":
            return {"all": datasets.CIFAR10DVS(str(self.events))}
        return {part: datasets.DVSGesture(str(self.events), train=part == "train") for part in ("train", "test")}


def split_recordings(found: Mapping[str, Any], rule: str, timesteps: int, shape: Sequence[int]) -> dict[str, Tensor]:
    """Turn tonic's data sets into the tensors of a prepared file.

    Args:
        found: A data set for "train" and for "test", or one for "all", with `data` (file names) and `targets`.
        rule: How "all" is split.
        timesteps: Frames of a recording.
        shape: (2, H, W) of a frame.
    """
    arrays: dict[str, Tensor] = {}
    for part in ("train", "test"):
        recordings = found["all"] if "all" in found else found[part]
        # tonic lists files in the order of the disk, which differs from machine to machine.
        names = [str(name) for name in recordings.data]
        order = torch.tensor(sorted(range(len(names)), key=names.__getitem__))
        labels = torch.tensor(recordings.targets)[order]
        if "all" in found:
            chosen = in_train(labels, rule) == (part == "train")
            order, labels = order[chosen], labels[chosen]
        arrays[f"{part}_images"] = _stack(recordings, order.tolist(), timesteps, shape, part)
        arrays[f"{part}_labels"] = labels
    return arrays


def in_train(labels: Tensor, rule: str) -> Tensor:
    """Choose the 90 % of recordings, in the order of their file names, that are trained on, bool [N]."""
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    if rule == "random_90_10":
        mixed = torch.randperm(len(labels), generator=torch.Generator().manual_seed(42))
        chosen[mixed[: len(labels) * 9 // 10]] = True
        return chosen
    for label in labels.unique():
        of_class = (labels == label).nonzero().flatten()
        chosen[of_class[: math.ceil(len(of_class) * 9 / 10)]] = True
    return chosen


def _stack(recordings: Any, order: list[int], timesteps: int, shape: Sequence[int], part: str) -> Tensor:
    transforms = import_module("tonic.transforms")
    channels, height, width = shape
    cut = transforms.Compose(
        [
            transforms.Downsample(sensor_size=recordings.sensor_size, target_size=(width, height)),
            transforms.ToFrame(sensor_size=(width, height, channels), n_event_bins=timesteps),
        ]
    )
    images = torch.empty(len(order), height, width, timesteps * channels, dtype=torch.uint8)
    for place, index in enumerate(track(order, f"{part} frames")):
        frames_TCHW = np.minimum(cut(recordings[index][0]), 255).astype(np.uint8)
        images[place] = torch.from_numpy(frames_TCHW).flatten(0, 1).permute(1, 2, 0)
    return images
