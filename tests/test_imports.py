"""The direction of imports: nothing imports upwards."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tser_lightning"
LIBRARY = {"training", "measure", "data", "losses", "models", "neurons", "kernels"}
MAY_IMPORT = {
    "kernels": set(),
    "neurons": {"kernels"},
    "models": {"neurons", "kernels"},
    "losses": {"neurons"},
    "data": set(),
    "measure": {"models", "neurons", "kernels"},
    "training": {"measure", "data", "losses", "models", "neurons", "kernels"},
    "schema": {"kernels"},  # the names in its registries, without torch
    "records": LIBRARY | {"schema"},
    "report": LIBRARY | {"records"},
    "registry": LIBRARY | {"records", "schema"},
    "deploy": LIBRARY | {"registry"},
    "config": {"schema", "registry", "records", "data"},
    "tasks": LIBRARY | {"records", "report", "registry", "deploy", "config"},
    "sweep": {"report", "records", "registry", "config", "tasks"},
    "cli": {"schema", "report", "config", "tasks", "sweep", "api"},
}
ANYBODY = {"operating_system", "errors", "atomic_io", "plain_yaml", "termination"}


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


def test_only_config_sweeps_and_the_command_line_see_hydra() -> None:
    for file in PACKAGE.rglob("*.py"):
        rooms = set(file.relative_to(PACKAGE).parts)
        if not rooms & {"config", "sweep", "cli"} and file.name != "options.py":  # which resolves the values of a file
            assert not {name.split(".")[0] for name in imported(file)} & {"omegaconf", "hydra"}, file


def modules_of(file: Path) -> set[str]:
    """The package's modules that a file imports when it is imported itself, so not those inside its functions."""
    tree = ast.parse(file.read_text())
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tser_lightning"):
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in inside if _file(name)} or {node.module}
    return found


def _file(module: str) -> Path | None:
    place = PACKAGE.parent / module.replace(".", "/")
    return next((each for each in (place.with_suffix(".py"), place / "__init__.py") if each.is_file()), None)


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    graph = {file: {_file(name) for name in modules_of(file)} for file in PACKAGE.rglob("*.py")}
    while True:
        leaves = {file for file, imports in graph.items() if not imports & graph.keys()}
        if not leaves:
            break
        graph = {file: imports for file, imports in graph.items() if file not in leaves}
    assert not graph, sorted(str(file.relative_to(PACKAGE)) for file in graph)


def test_the_kernels_know_no_module_of_torch() -> None:
    for file in (PACKAGE / "kernels").glob("*.py"):
        nodes = list(ast.walk(ast.parse(file.read_text())))
        froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
        assert not any(node.module == "torch" and alias.name == "nn" for node in froms for alias in node.names), file
        assert not any(isinstance(node, ast.Attribute) and node.attr == "nn" for node in nodes), file


def test_a_student_a_loss_and_a_neuron_are_made_without_what_takes_seconds_to_import() -> None:
    heavy = {"hydra", "lightning", "wandb", "matplotlib", "torchvision", "scipy", "torch._dynamo"}
    made = (
        "import sys, tser_lightning as tl; tl.build_loss('tser'); tl.build_neuron('lif'); tl.load_student;"
        f"print(sorted({heavy} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", made], capture_output=True, text=True).stdout == "[]\n"


def test_no_two_modules_define_a_public_class_of_the_same_name() -> None:
    homes: dict[str, list[Path]] = {}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(file.relative_to(PACKAGE))
    assert {"Distiller", "Setting"} <= homes.keys()
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def test_one_module_alone_knows_what_is_not_public_in_hydra() -> None:
    knowing = {file.stem for file in PACKAGE.rglob("*.py") if any("hydra._internal" in name for name in imported(file))}
    assert knowing == {"hydra_internal"}
