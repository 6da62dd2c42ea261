"""Arrays in files of other kinds, and the command that makes a prepared file of them. Imports no torch."""

import shlex
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tser_lightning.data.array_checks import FORM, Stored, WrongArrays, check_arrays
from tser_lightning.errors import UsageError

# How files of arrays begin, and the Python that reads one.
_READERS = {
    b"\x89HDF": "{{name: array[()] for name, array in h5py.File({!r}).items()}}",
    b"MATLAB": "scipy.io.loadmat({!r})",
    b"\x80": "torch.load({!r})",
}


def check_kind(path: Path) -> None:
    """Look whether a path leads to arrays in a file of another kind, or to a folder.

    Raises:
        UsageError: It does; its last line is the command that writes a prepared file of them.
    """
    if path.is_dir():
        if any(path.glob("*.npy")):
            raise _convertible(path, "a folder of arrays", *_npy_files(path))
        inside = sorted(path.glob("*.safetensors"))
        folders = (path / "train").is_dir()
        raise UsageError(
            f"path={path} is a folder",
            "`Prepared` reads one file of arrays, `ImageFolder` reads PATH/train/CLASS/* and PATH/val/CLASS/*",
            "`ImageFolder`" if folders or not inside else f"path={inside[0]}",
        )
    if not path.is_file():
        return
    with path.open("rb") as opened:
        start = opened.read(8)
    if start.startswith(b"PK") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            of_numpy = all(name.endswith(".npy") for name in archive.namelist())
        if of_numpy:
            raise _convertible(path, "a file of NumPy", f"dict(np.load({str(path)!r}))", _all_stored(_loaded(path)))
        raise _convertible(path, "a file of torch", f"torch.load({str(path)!r})")
    if start.startswith(b"\x93NUMPY"):
        raise _convertible(path, "one array of NumPy", *_npy_files(path.parent))
    for magic, reader in _READERS.items():
        if start.startswith(magic):
            raise _convertible(path, "a file of arrays of another kind", reader.format(str(path)))


def _loaded(path: Path) -> Any:
    """Read a file of NumPy: an array, or all that lie in one file."""
    try:
        found = np.load(path, mmap_mode="r")
        return found if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except (ValueError, OSError, EOFError) as error:
        raise UsageError(
            f"{path} cannot be read: {error}", "it is damaged, or holds no numbers", "arrays of numbers"
        ) from error


def _npy_files(folder: Path) -> tuple[str, dict[str, Stored]]:
    found = {file.stem: _loaded(file) for file in sorted(folder.glob("*.npy"))}
    load = f"{{file.stem: np.load(file) for file in pathlib.Path({str(folder)!r}).glob('*.npy')}}"
    return load, _all_stored(found)


def _all_stored(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Stored]:
    def stored(name: str, array: npt.NDArray[Any]) -> Stored:
        return Stored(array.dtype.name, array.shape, lambda: array, f"arrays[{name!r}]")

    return {name: stored(name, array) for name, array in arrays.items()}


def _convertible(path: Path, kind: str, load: str, arrays: Mapping[str, Stored] | None = None) -> UsageError:
    """Say that arrays lie in another kind of file, and how they get into a prepared one."""
    what, fix = f"path={path} is {kind}", rewriting(path, load)
    try:
        if arrays is not None:
            check_arrays(arrays)
    except WrongArrays as error:
        what = f"{what}, and not in the prepared form: {error.what}"
        fix = rewriting(path, load, error.fix) if error.typed else error.fix
    return UsageError(what, f"`Prepared` reads the .safetensors file of write_prepared: {FORM}", fix)


def rewriting(path: Path, load: str, change: str = "", names: Sequence[str] | None = None) -> str:
    """Write the command that puts the arrays of another file into a prepared one, beside it.

    Args:
        path: The file that holds the arrays.
        load: Python that gives its arrays by their names.
        change: Python that mends them.
        names: Names of the classes.
    """
    target = path.with_suffix(".safetensors") if path.suffix != ".npy" else path.parent / "prepared.safetensors"
    if path.is_dir() or target.exists():
        target = target.with_name(f"{path.stem}-prepared.safetensors")
    needs = [name for name in ("h5py", "scipy.io", "torch", "pathlib") if f"{name}." in load]
    lines = [
        f"import {', '.join(['numpy as np', *needs])}",
        *(["from safetensors.numpy import load_file"] if load.startswith("load_file") else []),
        "from tser_lightning.data import write_prepared",
        f"arrays = {load}",
        *([change] if change else []),
        f"write_prepared({str(target)!r}, arrays{f', {list(names)!r}' if names else ''})",
    ]
    code = "; ".join(lines)
    quoted = shlex.quote(code) if set(code) & set('"$`\\!') else f'"{code}"'
    # Python leaves the words behind its code alone, so that the whole line can be typed as it stands.
    return f"python -c {quoted} then `Prepared` {shlex.quote(f'path={target}')}"
