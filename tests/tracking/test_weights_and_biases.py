import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = """
import sys
from pathlib import Path
from tser_lightning.tracking.weights_and_biases import wandb_run
with wandb_run("digits-tser-1", Path(sys.argv[1]), {"loss": {"lam": 0.01}}, mode="offline", group="digits",
               tags=["loss=tser"]) as logger:
    logger.log_metrics({"val/acc": 50.0, "epoch": 0}, step=10)
    logger.log_metrics({"val/acc": 75.0, "epoch": 1}, step=20)
    logger.experiment.summary.update({"test/acc": 97.5})
    if len(sys.argv) > 2:
        raise KeyboardInterrupt
"""


def run_offline(folder: Path, *more: str) -> Path:
    subprocess.run([sys.executable, "-c", SCRIPT, str(folder), *more], capture_output=True, check=not more)
    (found,) = (folder / "wandb").glob("offline-run-*-digits-tser-1")
    return found


def inspected(run: Path, *what: str) -> Any:
    wandb = Path(sys.executable).with_name("wandb")
    command = [str(wandb), "leet", "inspect", *what, "--json", str(run)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_an_offline_run_reads_back_with_its_summary(tmp_path: Path) -> None:
    told = json.dumps(inspected(run_offline(tmp_path), "--summary"))
    assert "test/acc" in told
    assert "97.5" in told


def test_disabled_gives_no_logger_and_writes_nothing(tmp_path: Path) -> None:
    from tser_lightning.tracking.weights_and_biases import wandb_run

    with wandb_run("name", tmp_path / "runs", {}, mode="disabled") as logger:
        assert logger is None
    assert not (tmp_path / "runs").exists()
