"""Fig. 5: t-SNE of what the classifiers of teacher and students get to see.

`features.safetensors` of a run directory holds `student` [N, D] (mean over time), `teacher` [N, D'] if there was one,
and `labels` [N] of the same N test images.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tser_lightning.report.cells import Comparisons
from tser_lightning.report.drawing import Figure, left_out, shown, slug
from tser_lightning.report.labels import Label
from tser_lightning.report.style import PAGE, panels, styled

IMAGES = 1000  # t-SNE takes seconds for so many
CLASSES = 10  # more cannot be told apart
# Okabe and Ito, and Tol
COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#999933", "#332288", "#44aa99", "#882255")

Features = NDArray[np.float32]


@styled
def embeddings(comparisons: Comparisons) -> list[Figure]:
    """Draw t-SNE of the teacher and of one student per method, a figure per setting."""
    drawn = [_embedding(comparisons, column) for column in comparisons.columns]
    return [figure for figure in drawn if figure is not None]


def _embedding(comparisons: Comparisons, column: Label) -> Figure | None:
    files = {
        row: next(
            (r.path / "features.safetensors" for r in records if (r.path / "features.safetensors").is_file()), None
        )
        for row, records in shown(comparisons, column).items()
    }
    clouds: dict[str, tuple[Features, NDArray[np.int64]]] = {}
    for row, file in files.items():
        if file is not None:
            features = _load(file)
            if "teacher" in features:
                clouds.setdefault("teacher", (features["teacher"], features["labels"]))
            clouds[str(row)] = features["student"], features["labels"]
    if not clouds:
        return None
    figure, places = panels(len(clouds), width=PAGE / 4, height=1.9, across=4)
    for axes, (name, (features_ND, labels_N)) in zip(places, clouds.items(), strict=True):
        _cloud(axes, *_chosen(features_ND, labels_N))
        axes.set_title(name)
    caption = (
        f"t-SNE (perplexity 30, seed 0) of penultimate features of up to {IMAGES} test images, of at most {CLASSES} "
        f"classes, one run per method. Distances between clusters mean nothing.{left_out(comparisons, column)}"
    )
    return Figure(f"fig5_tsne_{slug(column)}", f"t-SNE of features: {', '.join(column.parts)}", caption, figure)


def _load(file: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return dict(load_file(file))


def _chosen(features_ND: Features, labels_N: NDArray[np.int64]) -> tuple[Features, NDArray[np.int64]]:
    classes = np.unique(labels_N)[:CLASSES]
    kept = np.flatnonzero(np.isin(labels_N, classes) & np.isfinite(features_ND).all(1))
    if len(kept) > IMAGES:
        kept = kept[np.linspace(0, len(kept) - 1, IMAGES).astype(int)]
    return features_ND[kept], labels_N[kept]


def _cloud(axes: Any, features_ND: Features, labels_N: NDArray[np.int64]) -> None:
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[])
    if len(features_ND) < 5 or not float(features_ND.var(axis=0).sum()) > 1e-12:  # scikit-learn's t-SNE would crash
        axes.text(0.5, 0.5, "the same features\nfor every image", ha="center", va="center", transform=axes.transAxes)
        return
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features_ND) - 1) / 3)
    places_N2 = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(features_ND)
    for index, label in enumerate(np.unique(labels_N)):
        of_class = places_N2[labels_N == label]
        axes.scatter(*of_class.T, s=4, color=COLORS[index], lw=0, rasterized=True)
        x, y = np.median(of_class, axis=0)
        around = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": COLORS[index], "alpha": 0.85}
        axes.text(x, y, str(label), ha="center", va="center", fontsize=7, weight="bold", color="black", bbox=around)
