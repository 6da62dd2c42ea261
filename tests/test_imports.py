"""The direction of imports: nothing imports upwards."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tser_lightning"
MAY_IMPORT = {
    "neurons": set(),
    "models": {"neurons"},
    "losses": {"neurons"},
    "data": set(),
    "measure": {"models", "neurons"},
    "training": {"measure", "data", "losses", "models", "neurons"},
    "records": {"training", "measure", "data", "losses", "models", "neurons"},
    "report": {"records", "training", "measure", "data", "losses", "models", "neurons"},
    "cli": {"report", "records", "training", "measure", "data", "losses", "models", "neurons"},
}
ANYBODY = {"mistake", "durable", "plain_yaml", "termination"}


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names


def imported_rooms(file: Path) -> set[str]:
    return {name.split(".")[1] for name in imported(file) if name.startswith("tser_lightning.")}


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_only_what_is_below_it(room: str) -> None:
    files = list((PACKAGE / room).rglob("*.py"))
    assert files
    for file in files:
        assert imported_rooms(file) <= MAY_IMPORT[room] | {room} | ANYBODY, file


def test_only_the_command_line_sees_a_config_object() -> None:
    for file in PACKAGE.rglob("*.py"):
        if "cli" not in file.parts:
            assert not {name.split(".")[0] for name in imported(file)} & {"omegaconf", "hydra"}, file
