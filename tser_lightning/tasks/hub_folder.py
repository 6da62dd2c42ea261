"""A student to hand over: its two files and a model card, in a folder as the Hugging Face Hub takes it."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from tser_lightning.atomic_io import write_bytes, write_json
from tser_lightning.deploy.hub import SCHEME, pushed
from tser_lightning.deploy.load import load_student
from tser_lightning.records.run_directory import RunDirectory
from tser_lightning.report.model_card import model_card

log = logging.getLogger("tser_lightning")


def write_hub_folder(home: RunDirectory, output: str | None, license: str | None) -> dict[str, Any]:
    """Write student.safetensors, student.json and README.md, and push them if the output is an address of the Hub.

    Args:
        home: The directory of a finished run.
        output: The folder, or hf://OWNER/NAME[@BRANCH]; None: `hub` in the directory of the run.
        license: Of the weights, for the model card.

    Returns:
        Where the files are, and the commit if they were pushed.
    """
    remote = output if output and output.startswith(SCHEME) else None
    folder = Path(home.path / "hub" if output is None or remote else output)
    folder.mkdir(parents=True, exist_ok=True)
    card = json.loads((home.path / "student.json").read_text())
    card["student"] = {**card["student"], "weights": None}  # what it started from was a place on this machine
    shutil.copyfile(home.path / "student.safetensors", folder / "student.safetensors")
    write_json(folder / "student.json", card)
    measured = home.path / "exit.json"
    page = model_card(
        name=remote.rpartition("/")[2].partition("@")[0] if remote else home.path.resolve().name,
        address=remote or "FOLDER",
        card=card,
        result=home.result() or {},
        exit_measured=json.loads(measured.read_text()) if measured.is_file() else None,
        versions=home.info().get("versions") or {},
        license=license,
    )
    write_bytes(folder / "README.md", page.encode())
    load_student(folder)  # nothing is handed over that cannot be loaded
    log.info("a student to hand over: %s", folder)
    return {"folder": str(folder), **({"commit": pushed(folder, remote)} if remote else {})}
