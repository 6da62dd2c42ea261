from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tser_lightning.report.cells import compare_methods
from tser_lightning.report.collect import collect
from tser_lightning.report.embedding import embeddings
from tser_lightning.report.grid import make_grid


def test_teacher_and_student_have_a_cloud_with_all_images_and_classes(runs: Path) -> None:
    draws = np.random.default_rng(0)
    labels_N = np.repeat(np.arange(3), 20)
    student_ND = (labels_N[:, None] * 5 + draws.standard_normal((60, 8))).astype(np.float32)
    content: dict[str, Any] = {"student": student_ND, "teacher": 2 * student_ND, "labels": labels_N}
    save_file(content, min(runs.glob("*tser*")) / "features.safetensors")
    (figure,) = embeddings(compare_methods(make_grid(collect(runs / "*"))))
    assert [axes.get_title(loc="left") for axes in figure.canvas.axes] == ["teacher", "tser"]
    for axes in figure.canvas.axes:
        assert [len(dots.get_offsets()) for dots in axes.collections] == [20, 20, 20]
        assert [text.get_text() for text in axes.texts] == ["0", "1", "2"]


def test_without_features_there_is_no_figure(runs: Path) -> None:
    assert embeddings(compare_methods(make_grid(collect(runs / "*")))) == []


def test_a_network_that_says_the_same_of_every_image_is_said_to(runs: Path) -> None:
    content: dict[str, Any] = {"student": np.ones((60, 8), np.float32), "labels": np.repeat(np.arange(3), 20)}
    save_file(content, min(runs.glob("*tser*")) / "features.safetensors")
    (figure,) = embeddings(compare_methods(make_grid(collect(runs / "*"))))
    assert "the same features" in figure.canvas.axes[0].texts[0].get_text()
