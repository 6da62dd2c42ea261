"""Messages about a user's own network or loss: its name, what it returned, why a call failed."""

import re
import traceback
from pathlib import Path

import torch
from torch import Tensor, nn

from tser_lightning.errors import RunError, UsageError

_VIEW = "view size is not compatible"
_SIZES = re.compile(r"must match|cannot be multiplied|is invalid for input of size|Expected size|dimension|in_features")
PASSED_ON = (UsageError, RunError, MemoryError, torch.OutOfMemoryError)


def named(role: str, part: object) -> str:
    """Name a part of a training, e.g. "the student my_nets.Net"."""
    owner = part if isinstance(part, type) else type(part)
    return f"the {role} {owner.__module__}.{owner.__qualname__}"


def described(value: object) -> str:
    """Describe a returned value, e.g. "a tensor [4, 10] of float32", "a tuple of 2"."""
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, dict):
        return f"a dict with {', '.join(map(repr, list(value)[:4])) or 'nothing in it'}"
    return "None" if value is None else f"a {type(value).__name__}"


def failed(error: Exception, who: str, given: str, contract: str, fix: str) -> UsageError:
    """Turn what a call raised into a `UsageError` that names the line in the user's file.

    Args:
        error: The exception that the call raised.
        who: The name of the part, from `named`.
        given: What it was called with.
        contract: What it may be called with, and gives.
        fix: What to do, unless the error itself says more.
    """
    what = f"{who} fails {given}: {type(error).__name__}: {_first_line(error)}{_place(error)}"
    if _VIEW in str(error):
        return UsageError(
            what=what,
            why="maps lie channels last in memory, where that is fastest, and view() takes one layout alone",
            fix="x.flatten(1) or x.reshape(x.size(0), -1) in place of x.view(x.size(0), -1), or channels_last=False",
        )
    return UsageError(what=what, why=contract, fix=fix)


def is_about_sizes(error: BaseException) -> bool:
    """Whether an error speaks of shapes that do not fit each other."""
    return isinstance(error, RuntimeError | ValueError) and _SIZES.search(str(error)) is not None


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else "no message"


def _place(error: Exception) -> str:
    """Find the last line of a user's own file in an error's traceback."""
    libraries = [str(Path(module.__file__ or "").parent) for module in (torch, nn)]
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(frame.filename.startswith(folder) for folder in (*libraries, str(Path(__file__).parents[1])))
        and "site-packages" not in frame.filename
    ]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
