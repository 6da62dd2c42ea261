"""Logging of a finished run's result to W&B: all measures, tables by step and layer, figures, files."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tser_lightning.records.measures import families, measured

CHECKPOINTS = ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "student.safetensors", "student.json")


def log_outcome(run: Any, result: Mapping[str, Any], layers: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Log a result to a W&B run: measures into its summary, numbers by step and layer into tables and charts.

    The lines have axes of their own (`by_step/t`, `by_layer/index`), so that W&B's own panels draw them for many runs.

    Args:
        run: The W&B run.
        result: The content of result.json.
        layers: `firing_by_layer` of measures.json, if it was measured.
    """
    run.summary.update({**result, **{each.name: each.of(result) for each in measured(result)}})
    if "val/best_acc" in result:
        run.log({"val/best_acc": result["val/best_acc"]})  # W&B's searches go by what is logged
    for name, rows in tables_of(result, layers).items():
        _log_rows(run, name, rows)


def tables_of(
    result: Mapping[str, Any], layers: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Make the tables `by_step` and `by_layer` of a result, without empty ones."""
    by_layer = [
        {"index": index, "layer": path, "firing_rate": layer["rate"], "dead_neurons": layer["dead_neurons"]}
        for index, (path, layer) in enumerate((layers or {}).items())
    ]
    return {name: rows for name, rows in {"by_step": list(_steps(result)), "by_layer": by_layer}.items() if rows}


def _steps(result: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """One row per time step, with every measure that is declared by the step."""
    t = 1
    while f"test/acc_t{t}" in result:
        yield {"t": t, **{name: result[f"test/{name}{t}"] for name in families() if f"test/{name}{t}" in result}}
        t += 1


def _log_rows(run: Any, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    import wandb  # slow, and a run without it needs none of it: so in every function here

    columns: list[str | int] = list(rows[0])
    axis = f"{name}/{columns[0]}"
    run.define_metric(axis, summary="none")
    for column in columns[1:]:
        run.define_metric(f"{name}/{column}", step_metric=axis, summary="none")
    for row in rows:
        run.log({f"{name}/{key}": value for key, value in row.items() if not isinstance(value, str)})
    run.log({f"{name}/table": wandb.Table(columns=columns, data=[list(row.values()) for row in rows])})


def log_figures(run: Any, files: Iterable[Path]) -> None:
    """Log pictures under `figures/NAME`."""
    import wandb

    run.log({f"figures/{file.stem}": wandb.Image(str(file)) for file in files})


def log_checkpoints(run: Any, home: Path) -> None:
    """Keep the checkpoints and the student of a run directory as an artifact of type model."""
    log_files(run, home.name, "model", [home / name for name in CHECKPOINTS if (home / name).is_file()])


def log_files(run: Any, name: str, kind: str, files: Iterable[Path]) -> None:
    """Keep files as one artifact.

    Args:
        run: The W&B run.
        name: Letters, digits and ``._-``.
        kind: The artifact's type.
        files: Kept under their names.
    """
    import wandb

    artifact = wandb.Artifact(name, type=kind)
    for file in files:
        artifact.add_file(str(file))
    run.log_artifact(artifact)
