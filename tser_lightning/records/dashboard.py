"""A W&B workspace that compares ablations, as code (extra `dashboard`: wandb-workspaces)."""

import json
from pathlib import Path
from typing import Any

from tser_lightning.atomic_io import write_text
from tser_lightning.errors import UsageError
from tser_lightning.records.measures import MEASURES, Measure, families

AXES = ("loss.name", "loss.alpha", "loss.tau", "loss.lam", "student.name", "student.timesteps", "seed")

LOGARITHMIC = ("loss.lam",)  # which are swept over powers of ten
KINDS = {"teacher": "Teacher", "certainty": "Certainty", "activity": "Activity"}


def _of(kind: str) -> list[Measure]:
    """List the measures of a kind, families over time steps left out."""
    return [each for each in MEASURES if each.kind == kind and not each.is_family and not each.name.startswith("val/")]


def workspace(place: str) -> Any:
    """Define the workspace; nothing is sent.

    Args:
        place: ENTITY/PROJECT.

    Returns:
        A `wandb_workspaces.workspaces.Workspace`.

    Raises:
        UsageError: No such place, or the extra is not installed.
    """
    entity, slash, project = place.partition("/")
    if not (entity and slash and project) or "/" in project:
        raise UsageError(f"wandb.workspace={place} names no project", "it is ENTITY/PROJECT", "wandb.workspace=me/snn")
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as missing:
        raise UsageError(
            what="wandb.workspace needs the package wandb-workspaces",
            why="it is an extra: only dashboards need it",
            fix="pip install 'tser-lightning[dashboard]'",
        ) from missing
    loss, accuracy = wr.Config("loss.name"), wr.SummaryMetric("test/acc")

    def line(x: str, *y: str) -> Any:
        names: list[Any] = list(y)
        return wr.LinePlot(x=x, y=names, groupby=loss, groupby_aggfunc="mean", groupby_rangefunc="stddev")

    def bars(name: str) -> Any:
        return wr.BarPlot(metrics=[wr.SummaryMetric(name)], groupby=loss, groupby_aggfunc="mean")

    def against(x: Any, y: Any = accuracy) -> Any:
        return wr.ScatterPlot(x=x, y=y, log_x=getattr(x, "name", "") in LOGARITHMIC)

    columns = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(axis)) for axis in AXES[:-1]]
    columns.append(wr.ParallelCoordinatesPlotColumn(metric=accuracy))
    sections = {
        "Accuracy": [bars("test/acc"), line("epoch", "val/acc"), wr.ParallelCoordinatesPlot(columns=columns)],
        "Time steps": [line("by_step/t", f"by_step/{name}") for name in families()],
        **{title: [bars(each.name) for each in _of(kind)] for kind, title in KINDS.items()},
        "Sweeps": [
            against(wr.Config(axis), wr.SummaryMetric(name))
            for axis in ("loss.lam", "loss.tau", "loss.alpha", "student.timesteps")
            for name in ("val/best_acc", "test/acc")  # what a choice may go by, and what came of it
        ],
        "Cost": [
            *(against(wr.SummaryMetric(each.name)) for each in _of("cost") if each.name == "test/energy_mj"),
            *(bars(each.name) for each in _of("cost")),
            line("by_layer/index", "by_layer/firing_rate"),
        ],
        "Training": [line("epoch", f"train/{part}") for part in ("loss", "ce", "kl", "entropy")],
        "Runs": [wr.RunComparer(diff_only="split")],  # the settings in which they differ, and their results
        "Figures": [wr.MediaBrowser(media_keys=["figures/steps"])],
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name="Ablations",
        sections=[ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items()],
        runset_settings=ws.RunsetSettings(
            filters=[ws.Metric("JobType") == "distill"],
            groupby=[ws.Config("loss.name")],
            pinned_columns=["summary:val/best_acc", "summary:test/acc", *(f"config:{axis}" for axis in AXES)],
        ),
    )


def definition(dashboard: Any) -> dict[str, Any]:
    """Write a workspace out as the specification that the server keeps, and check it against the package's schema.

    Raises:
        pydantic.ValidationError: It does not keep to the schema.
    """
    from wandb_workspaces.workspaces.internal import WorkspaceViewspec

    text = dashboard._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    WorkspaceViewspec.model_validate_json(text)
    found: dict[str, Any] = json.loads(text)
    return found


def save_dashboard(dashboard: Any, file: Path, online: bool) -> str:
    """Write the definition to a file and, if there is a server, create the workspace there.

    Args:
        dashboard: What `workspace` gave.
        file: The JSON file that is written.
        online: Whether to send it.

    Returns:
        Its address, or the path of the file.

    Raises:
        UsageError: The server refuses it or cannot be reached.
    """
    write_text(file, json.dumps(definition(dashboard), indent=2) + "\n")
    if not online:
        return str(file)
    try:
        return str(dashboard.save().url)
    except Exception as error:  # whatever a network, a server or its client raises
        raise UsageError(
            what=f"W&B did not take the workspace: {next(iter(str(error).splitlines()), type(error).__name__)}",
            why=f"its definition is in {file}",
            fix="wandb.workspace=ENTITY/PROJECT with a key that may write there, or logging.wandb.mode=offline",
        ) from error
