"""The settings of the data sets."""

from typing import Annotated, Literal

from pydantic import Field

from tser_lightning.schema.setting import (
    Count,
    NotNegative,
    Positive,
    Settings,
    Text,
    UnitInterval,
    UnitIntervalOpenAbove,
    Whole,
    about,
)

ROOM = "tser_lightning.data."
Pixels = Annotated[int, Field(ge=0, le=4096)]


class AugmentSettings(Settings):
    """What is done to training images."""

    crop: Pixels = about("pixels of zero padding before a random crop of the old size; 0 is none")
    flip: bool = about("mirror half of the images left to right")
    auto: Literal["cifar10", "imagenet", "svhn"] | None = about("AutoAugment policy; null is none")
    rand_ops: Whole = about("operations of RandAugment, each with probability 0.5; 0 is none")
    rand_magnitude: Annotated[int, Field(ge=0, le=30)] = about("0 to 30; timm's m9 is 27 here")
    rand_from: Literal["timm", "spikformer"] = about(
        "list of its operations: timm (15) or spikformer (the 5 of its CIFAR code)", default="timm"
    )
    cutout: Pixels = about("side of a square of zeros, in pixels; 0 is none")
    erasing: UnitInterval = about("probability of random erasing, after the normalisation")


class MixupSettings(Settings):
    """The mixing of two images and their labels."""

    alpha: NotNegative = about("of the Beta distribution of the share of each image; 0 is no mixing")
    smoothing: UnitIntervalOpenAbove = about("share of a label that is spread over all classes")
    until: Whole | None = about("epoch from which on images are no longer mixed; null mixes to the end")


class ImageSetSettings(Settings):
    """What every set has."""

    num_classes: Annotated[int, Field(ge=2, le=1_000_000)] = about("how many there are")
    shape: Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=3, max_length=3)] = about("[C, H, W]")
    mean: list[float] = about("of every channel, over the training images with values from 0 to 1")
    std: list[Positive] = about("of every channel")
    validation: UnitIntervalOpenAbove = about(
        'fraction of train held out as "val", by a fixed rule; 0 trains on everything'
    )
    batch_size: Count = about("images of a training step, all processes together")
    eval_batch_size: Count = about("images of a batch of validation or test, at most")
    drop_last: bool = about("leave out an incomplete last training batch")
    augment: AugmentSettings
    mixup: MixupSettings


class DigitsSettings(ImageSetSettings, targets=(f"{ROOM}Digits",)):
    """Handwritten digits of scikit-learn."""


class SyntheticSettings(ImageSetSettings, targets=(f"{ROOM}Synthetic",)):
    """Random images."""

    train_images: Annotated[int, Field(ge=1)] = about("how many")
    test_images: Annotated[int, Field(ge=1)] = about("how many")


class DownloadedSettings(ImageSetSettings, targets=(f"{ROOM}Downloaded",)):
    """A set that torchvision downloads."""

    name: Text = about("of the set")
    root: Text = about("folder of the prepared file; `task=prepare` makes it")


class PreparedSettings(ImageSetSettings, targets=(f"{ROOM}Prepared",)):
    """Arrays in one file."""

    path: Text = about("the file that tser_lightning.data.write_prepared wrote")


class FromFilesSettings(ImageSetSettings):
    """Images of any size."""

    path: Text = about("where the images are")
    scale: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=2, max_length=2)] = about(
        "training cuts out a random rectangle of this share of the image and resizes it to shape"
    )
    resize: Annotated[int, Field(ge=1, le=8192)] | None = about(
        "evaluation resizes the shorter side to this, then cuts out the centre; null: shape / 0.875"
    )


class ImageFolderSettings(FromFilesSettings, targets=(f"{ROOM}ImageFolder",)):
    """Folders of images, one per class."""

    name: Text = about("of the set, in messages and results")


class StreamedSettings(FromFilesSettings, targets=(f"{ROOM}Streamed",)):
    """Chunks of litdata."""

    name: Text = about("of the set, in messages and results")


class EventFramesSettings(ImageSetSettings, targets=(f"{ROOM}EventFrames",)):
    """Recordings of an event camera, as frames."""

    recordings: Text = about("tonic's name")
    root: Text = about("folder of the prepared file, whose name says split, steps and size")
    path: Text = about("tonic's folder; what is missing is downloaded there")
    split: Literal["official", "per_class_90_10", "random_90_10"] = about(
        "of train and test; those of a set without an official one are not comparable with each other"
    )
    timesteps: Annotated[int, Field(ge=1, le=1000)] = about(
        "frames of equally many events; the student's timesteps must be the same"
    )
