import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tser_lightning.report.write import write_report

QUALITY = {"ce": 93.5, "vanilla_kd": 95.0, "ts_ce": 95.3, "ts_kl": 95.6, "ts": 96.0, "tser": 96.3}
GIT = {"commit": "0123456789abcdef0123456789abcdef01234567", "changed": False}
VERSIONS = {"python": "3.11.2", "tser-lightning": "0.2.0", "torch": "2.15.0", "lightning": "2.6.6"}
HARDWARE = {"processor": "x86_64", "cores": 2, "memory_gb": 15.6, "gpus": []}

Build = Callable[..., Path]


def result_of(loss: str, seed: int, steps: int = 4, quality: float | None = None, **settings: Any) -> dict[str, Any]:
    """The content of a result.json: noise of its own per seed, one part of it the same for all losses."""
    draws = np.random.default_rng([seed, len(loss), int(1e6 * sum(map(ord, str(sorted(settings.items())))))])
    level = QUALITY.get(loss, 94.0) if quality is None else quality
    level += 0.3 * np.random.default_rng(seed).standard_normal() + 0.1 * draws.standard_normal()
    alone = [level - 6 / t - 1 for t in range(1, steps + 1)]
    result: dict[str, Any] = {
        "experiment": "digits",
        "loss": loss,
        "student": "resnet_small",
        "teacher": "resnet_small",
    }
    result |= {"neuron": "lif", "data": "digits", "selection": "val", **settings, "seed": seed, "test/acc": level}
    result |= {f"test/acc_t{t}": level - 4 / t + 4 / steps for t in range(1, steps + 1)}
    result |= {f"test/acc_step{t}": accuracy for t, accuracy in enumerate(alone, start=1)}
    result |= {"test/agreement": level + 0.5, "test/firing_rate": 12 + 0.1 * seed, "test/energy_mj": 0.002 * steps}
    result |= {"test/energy_folded_mj": 0.0015 * steps, "test/ops": 5e6 * steps, "test/acs": 6e5 * steps}
    result |= {"test/macs": 3e5 * steps, "test/ece": 3.0, "teacher/acc": 98.5, "teacher/energy_mj": 0.023}
    return result | {"train/seconds": 20.0 + seed, "train/seconds_per_step": 0.125, "train/peak_memory_mb": 812.5}


def metrics_of(result: dict[str, Any], epochs: int = 10) -> list[dict[str, float]]:
    """The rows of a metrics.csv that ends at a result."""
    final = result["test/acc"]
    draws = np.random.default_rng(result["seed"])
    rows = []
    for epoch in range(epochs):
        left = np.exp(-epoch / 2)
        row: dict[str, float] = {"epoch": epoch, "step": 20 * (epoch + 1), "lr": 0.1 * (1 - epoch / epochs)}
        row |= {"train/loss": 2.3 * left + 0.2, "train/ce": 2.2 * left + 0.1, "train/kl": 3 * left + 0.1}
        rows.append({**row, "val/acc": final * (1 - 0.8 * left) + 0.3 * draws.standard_normal()})
    return rows


def settings_of(result: dict[str, Any]) -> dict[str, Any]:
    """The part of a result that says what was run."""
    return {key: value for key, value in result.items() if "/" not in key}


def config_of(result: dict[str, Any]) -> dict[str, Any]:
    """The part of a config.yaml that the report reads: all settings, also those at their defaults."""
    loss: dict[str, Any] = {"_target_": "tser_lightning.losses.DistillationLoss"}
    loss |= {} if result["loss"] == "ce" else {"alpha": 0.5, "tau": 5.0}
    loss |= {"lam": 0.01} if result["loss"] == "tser" else {}
    tree: dict[str, Any] = {"loss": loss, "student": {"timesteps": 4}, "trainer": {"epochs": 30}}
    tree |= {"neuron": {"_target_": "tser_lightning.neurons.LIF"}, "seed": result["seed"]}
    for key, value in result.items():
        group, _, name = key.partition(".")
        if name:
            tree.setdefault(group, {})[name] = value
    return tree


def maker(folder: Path) -> Build:
    """Makes run directories as `records.run_directory` leaves them, in folder/runs."""
    made = iter(range(1, 10**6))

    def make(loss: str, seed: int, *, status: str = "finished", error: str = "", steps: int = 4, **more: Any) -> Path:
        result = result_of(loss, seed, steps=steps, **({"student.timesteps": steps} if steps != 4 else {}), **more)
        path = folder / "runs" / f"{result['experiment']}-loss_{loss}-seed_{seed}-{next(made):08x}"
        path.mkdir(parents=True)
        info: dict[str, Any] = {"overrides": [f"loss={loss}", f"seed={seed}"], "git": GIT, "versions": VERSIONS}
        info |= {"hardware": HARDWARE, "settings": settings_of(result), "status": status}
        info |= {"started": "2026-11-02T10:00:00+00:00", "ended": "2026-11-02T10:00:21+00:00"}
        if error:
            info["error"] = [error]
        (path / "run.json").write_text(json.dumps(info))
        (path / "config.yaml").write_text(yaml.safe_dump(config_of(result)))
        rows = metrics_of(result)
        with (path / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows if status == "finished" else rows[:3])
        if status == "finished":
            (path / "result.json").write_text(json.dumps(result))
        return path

    return make


def table_3(build: Build) -> None:
    """Table 3 on the digits: five losses by three seeds; one failed, one was killed."""
    for loss in ("vanilla_kd", "ts_ce", "ts_kl", "ts", "tser"):
        for seed in (1, 2, 3):
            if (loss, seed) == ("ts_ce", 3):
                build(
                    loss, seed, status="failed", error="the loss is nan at epoch 3, step 77; its term kl is the cause"
                )
            elif (loss, seed) == ("ts_kl", 2):
                build(loss, seed, status="running")
            else:
                build(loss, seed)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return maker(tmp_path)


@pytest.fixture
def runs(tmp_path: Path, build: Build) -> Path:
    table_3(build)
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of Table 3, written once for all that only read it."""
    folder = tmp_path_factory.mktemp("report")
    table_3(maker(folder))
    files = write_report(str(folder / "runs" / "digits-*"), folder / "report")
    assert files[0] == folder / "report" / "report.html"
    assert all(file.is_file() for file in files)
    return folder / "report"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are opened from here on, in their order."""
    found: list[str] = []
    real = io.open

    def noting(file: Any, *arguments: Any, **more: Any) -> Any:
        found.append(Path(file).name)
        return real(file, *arguments, **more)

    monkeypatch.setattr(io, "open", noting)
    return found
