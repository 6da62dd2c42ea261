import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tser_lightning.data.batch import Batch
from tser_lightning.data.data_module import ImageDataModule
from tser_lightning.data.synthetic import Synthetic
from tser_lightning.errors import UsageError
from tser_lightning.losses import Needs
from tser_lightning.models import relu
from tser_lightning.models.resnet import resnet_small
from tser_lightning.training.logit_cache import LogitCache, checksums, key_of
from tser_lightning.training.recipe import Machine
from tser_lightning.training.teacher import Teacher
from tser_lightning.training.teacher_inference import NO_TEACHER, TeacherInference, cache_for


class Counting(nn.Module):
    """A linear teacher that counts its images."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.asked = nn.Linear(12, 5), 0

    def forward(self, images: Tensor) -> Tensor:
        self.asked += len(images)
        logits: Tensor = self.linear(images.flatten(1))
        return logits


def batch(epoch: int = 0, rows: tuple[int, ...] = (3, 0, 4)) -> Batch:
    """Images that depend on the epoch, as augmented ones do."""
    source = torch.Generator().manual_seed(epoch)
    images = torch.randn(6, 3, 2, 2, generator=source)[list(rows)]
    return Batch(images, torch.zeros(len(rows), dtype=torch.long), torch.tensor(rows))


def cache(folder: Path) -> LogitCache:
    return LogitCache(folder, "0123456789abcdef", epochs=2, images=6, classes=5)


@torch.no_grad()
def test_the_second_time_the_answer_is_read(tmp_path: Path) -> None:
    teacher = Counting()
    live = [cache(tmp_path)(batch(epoch), epoch, teacher) for epoch in (0, 1)]
    again = cache(tmp_path)
    read = [again(batch(epoch), epoch, teacher) for epoch in (0, 1)]
    assert again.hits == 6
    assert teacher.asked == 6 + 3  # the first answer is compared with what the teacher says today
    assert all(torch.equal(ours, expected) for ours, expected in zip(read, live, strict=True))


@torch.no_grad()
def test_what_comes_after_the_kept_epochs_is_asked(tmp_path: Path) -> None:
    teacher, kept = Counting(), cache(tmp_path)
    for _ in range(2):
        torch.testing.assert_close(kept(batch(7), 7, teacher), teacher.linear(batch(7).images.flatten(1)))
    assert teacher.asked == 6


@torch.no_grad()
def test_images_that_never_change_are_asked_once(tmp_path: Path) -> None:
    teacher, kept = Counting(), cache(tmp_path)
    for epoch in range(9):
        kept(batch(0), epoch, teacher)
    assert teacher.asked == 3 + 3
    assert kept.hits == 8 * 3


@torch.no_grad()
@pytest.mark.parametrize("what", ["other images", "other places", "logits", "cut off"])
def test_a_row_that_does_not_fit_is_not_used(tmp_path: Path, what: str) -> None:
    teacher = Counting()
    cache(tmp_path)(batch(), 0, teacher)
    asked = batch()
    if what == "other images":
        asked = asked._replace(images=asked.images * 1.001)
    if what == "other places":
        asked = asked._replace(images=asked.images.flip(0))
    if what == "logits":
        for path in tmp_path.glob("*.logits"):
            content = bytearray(path.read_bytes())
            content[3 * 5 * 4] ^= 1  # the lowest bit of the first logit of image 3
            path.write_bytes(content)
    if what == "cut off":
        for path in tmp_path.glob("*.logits"):
            path.write_bytes(path.read_bytes()[:-7])
    again = cache(tmp_path)
    torch.testing.assert_close(again(asked, 0, teacher), teacher.linear(asked.images.flatten(1)))
    assert (again.hits, again.misses) == (0, 3)
    assert again.refused == {"logits": 1, "other places": 2}.get(what, 3)  # of three; in the middle is the same image
    assert torch.equal(again(asked, 0, teacher), again(asked, 0, teacher))
    assert again.hits == 6


@torch.no_grad()
def test_what_another_teacher_said_is_refused_and_said_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache(tmp_path)(batch(), 0, Counting())
    torch.manual_seed(7)
    other, again = Counting(), cache(tmp_path)
    for _ in range(2):
        torch.testing.assert_close(again(batch(), 0, other), other.linear(batch().images.flatten(1)))
    assert (again.hits, again.misses, again.refused) == (3, 3, 3)  # what it says is kept in its place
    [said] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "is not what the teacher says today; the teacher is asked again" in said


@torch.no_grad()
@pytest.mark.parametrize(
    ("dtype", "scale", "kept"),
    [
        (torch.float32, 1e30, True),
        (torch.bfloat16, 1e30, True),
        (torch.float16, 1.0, True),
        (torch.float16, 1e4, False),  # beyond its range: infinite
    ],
)
def test_answers_are_kept_exactly_or_not_at_all(tmp_path: Path, dtype: torch.dtype, scale: float, kept: bool) -> None:
    def teacher(images: Tensor) -> Tensor:
        return (images.flatten(1)[:, :5] * 20 * scale).to(torch.bfloat16 if dtype == torch.float16 else dtype)

    def opened() -> LogitCache:
        return LogitCache(tmp_path, "0123456789abcdef", epochs=2, images=6, classes=5, dtype=dtype)

    live, again = opened()(batch(), 0, teacher), opened()
    found = again(batch(), 0, teacher)
    assert torch.equal(found.float(), live.float())
    assert again.hits == (3 if kept else 0)
    assert next(tmp_path.glob("*.logits")).stat().st_size == 2 * 6 * 5 * dtype.itemsize


@torch.no_grad()
def test_the_report_says_what_was_saved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    teacher = Counting()
    cache(tmp_path)(batch(), 0, teacher)
    kept = cache(tmp_path)
    kept(batch(), 0, teacher)
    kept(batch(1), 1, teacher)
    with caplog.at_level("INFO", "tser_lightning"):
        kept.report()
    pattern = (
        r"teacher's logits: 3 of 6 read, the others computed, (\S+) ms an image read, (\S+) ms an image computed: "
    )
    assert re.fullmatch(pattern + r"-?\d+\.\d s saved", caplog.messages[-1])
    assert kept.seconds.keys() == {"read", "computed"}
    assert all(seconds > 0 for seconds in kept.seconds.values())


def test_checksums_tell_order_and_single_bits() -> None:
    row = torch.randn(1, 50)
    assert checksums(row) != checksums(row.flip(1))
    other = row.clone()
    other.view(torch.int32)[0, 17] ^= 1
    assert checksums(row) != checksums(other)


def test_the_key_knows_weights_and_settings() -> None:
    net = nn.Linear(3, 2)
    key = key_of(net, seed=1)
    assert key == key_of(net, seed=1) != key_of(net, seed=2)
    with torch.no_grad():
        net.bias[0] += 1
    assert key_of(net, seed=1) != key


def test_the_file_is_named_by_all_that_an_answer_depends_on(tmp_path: Path) -> None:
    def opened(seed: int = 1, precision: str = "32-true", mix: float = 0.0, **augment: Any) -> None:
        data = Synthetic(5, (3, 2, 2), train_images=20, test_images=5, batch_size=4, augment=augment)
        data.mixup.until = 7 if mix else None
        assert cache_for(teacher, data, seed, 2, tmp_path, precision) is not None

    teacher = Teacher(Counting())
    every: list[dict[str, Any]] = [
        {},
        {"seed": 2},
        {"precision": "bf16-mixed"},
        {"erasing": 1e-6},  # shows in no first batch
        {"mix": 0.1},
    ]
    for settings in [*every, *every]:
        opened(**settings)
    assert len(list(tmp_path.glob("*.logits"))) == len(every)
    teacher.net.register_buffer("more", torch.ones(1))
    opened()
    assert len(list(tmp_path.glob("*.logits"))) == len(every) + 1
    data = Synthetic(5, (3, 2, 2), train_images=20, test_images=5, batch_size=4)
    assert cache_for(teacher, data, 1, 0, tmp_path) is None


class Compares(nn.Module):
    """A loss that asks for a teacher, and for some of its layers."""

    needs_teacher = True

    def __init__(self, *layers: str) -> None:
        super().__init__()
        self.needs = Needs(teacher_features=layers)


def images_of(steps: int) -> tuple[ImageDataModule, list[Batch]]:
    images = ImageDataModule(Synthetic(5, (3, 8, 8), train_images=10 * steps, test_images=5, batch_size=8), seed=3)
    return images, list(images.data.loader("train", seed=3))


@pytest.mark.parametrize("kept", [0, 1])
def test_a_prepared_inference_gives_the_logits_of_the_teacher_computed_or_read(tmp_path: Path, kept: int) -> None:
    teacher = Teacher(resnet_small(5, 3, relu))
    images, batches = images_of(4)
    for _ in range(2):
        inference = TeacherInference(teacher, Compares())
        inference.prepare(images, Machine(teacher_cache=kept, runs_dir=str(tmp_path)), "32-true")
        for batch in batches:
            torch.testing.assert_close(inference(batch, 0).logits, teacher(batch.images), rtol=1e-4, atol=1e-4)
    assert (inference.cache.hits if inference.cache else 0) == (
        sum(map(len, (b.labels for b in batches))) if kept else 0
    )


def test_a_loss_that_looks_inside_is_given_the_teacher_itself_and_its_layers(tmp_path: Path) -> None:
    teacher = Teacher(resnet_small(5, 3, relu))
    images, [batch, *_] = images_of(1)
    inference = TeacherInference(teacher, Compares("layer1"))
    inference.prepare(images, Machine(teacher_cache=2, runs_dir=str(tmp_path)), "32-true")
    outputs, net = inference(batch, 0), teacher.net
    assert inference.cache is None
    assert outputs.logits is not None
    assert torch.equal(outputs.logits, teacher(batch.images))
    [(name, feature_BCHW)] = outputs.features.items()
    assert name == "layer1"
    pooled_BC = net.get_submodule("layer1")(net.get_submodule("act1")(net.bn1(net.conv1(batch.images))))  # type: ignore[operator]
    assert torch.equal(feature_BCHW, pooled_BC)


def test_a_loss_without_a_teacher_is_told_nothing_and_one_that_needs_it_is_refused() -> None:
    _, [batch, *_] = images_of(1)
    assert TeacherInference(None, nn.Module())(batch, 0) == NO_TEACHER
    assert TeacherInference(Teacher(Counting()), nn.Module())(batch, 0) == NO_TEACHER  # it would fail on these images
    with pytest.raises(UsageError, match="there is none"):
        TeacherInference(None, Compares())
