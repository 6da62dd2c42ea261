import json
import os
from pathlib import Path

import pytest

from tser_lightning.errors import UsageError
from tser_lightning.records.dashboard import definition, save_dashboard, workspace

pytest.importorskip("wandb_workspaces")


def test_the_dashboard_is_written_to_a_file_that_reads_back_as_the_same_workspace(tmp_path: Path) -> None:
    from wandb_workspaces.workspaces import Workspace
    from wandb_workspaces.workspaces.internal import View, WorkspaceViewspec

    file = tmp_path / "workspace.json"
    assert save_dashboard(workspace("me/snn"), file, online=False) == os.fspath(file)
    spec = WorkspaceViewspec.model_validate_json(file.read_text())
    view = View(entity="me", project="snn", display_name="Ablations", name="", id="", spec=spec)
    again = Workspace._from_model(view)
    assert definition(again) == json.loads(file.read_text())
    assert [section.name for section in again.sections][:2] == ["Accuracy", "Time steps"]


def test_ablations_are_grouped_and_filtered_by_the_names_of_their_settings() -> None:
    found = json.dumps(definition(workspace("me/snn")))
    # W&B keeps a setting `loss.lam` of a nested config as `loss.value.lam`.
    for key in ('"groupBy": "loss.value.name"', "config:loss.value.lam", "config:student.value.timesteps"):
        assert key in found
    assert '"xAxis": "by_step/t"' in found


def test_lambda_stands_on_a_logarithmic_axis_and_sweeps_show_validation_before_test() -> None:
    found = definition(workspace("me/snn"))
    panels = [
        panel["config"] for section in found["section"]["panelBankConfig"]["sections"] for panel in section["panels"]
    ]
    drawn = [(each["xAxis"], each["yAxis"], each.get("xAxisLogScale", False)) for each in panels if "yAxis" in each]
    assert [row for row in drawn if "lam" in row[0]] == [
        ("config:loss.value.lam", "summary:val/best_acc", True),
        ("config:loss.value.lam", "summary:test/acc", True),
    ]
    assert not any(log for axis, _, log in drawn if "lam" not in axis)


def test_the_table_of_runs_has_both_accuracies_and_a_panel_compares_runs_by_what_differs() -> None:
    found = definition(workspace("me/snn"))
    pinned = [name for name, shown in found["section"]["runSets"][0]["runFeed"]["columnPinned"].items() if shown]
    assert {"summary:val/best_acc", "summary:test/acc", "config:loss.lam", "config:seed"} <= set(pinned)
    panels = {
        section["name"]: [panel["viewType"] for panel in section["panels"]]
        for section in found["section"]["panelBankConfig"]["sections"]
    }
    assert panels["Runs"] == ["Run Comparer"]
    assert panels["Figures"] == ["Media Browser"]


@pytest.mark.parametrize("place", ["me", "me/", "/snn", "me/snn/runs", ""])
def test_a_place_is_an_entity_and_a_project(place: str) -> None:
    with pytest.raises(UsageError, match="names no project"):
        workspace(place)
