import os
import subprocess
from importlib.metadata import version
from pathlib import Path

from tser_lightning.records.provenance import git_state, provenance


def test_it_names_the_command_the_versions_and_the_hardware() -> None:
    about = provenance(["loss=ce"])
    assert about["overrides"] == ["loss=ce"]
    assert about["versions"]["torch"] == version("torch")
    assert about["hardware"]["cores"] == len(os.sched_getaffinity(0))
    assert about["hardware"]["memory_gb"] > 0.5


def test_the_commit_is_gits_own(tmp_path: Path) -> None:
    here = Path(__file__).parent
    asked = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    state = git_state(here)
    assert (state or {}).get("commit") == (asked.stdout.strip() or None)
    assert git_state(tmp_path) is None
