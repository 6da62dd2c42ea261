"""Read files of weights, ours and others', into the networks that they fit."""

import argparse
import hashlib
import json
import logging
import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tser_lightning.errors import UsageError

log = logging.getLogger("tser_lightning")
State = Mapping[str, Tensor]


def load_weights(
    net: nn.Module, path: str | Path, *, whose: str = "teacher", renamed: Callable[[State], State] | None = None
) -> None:
    """Load a file of weights into a network, strictly and without running any code in it.

    Reads safetensors, and torch files under `weights_only`. The weights may lie under a key ("state_dict", "model",
    "net") and below a prefix ("module.", "_orig_mod.", Lightning's "model."), as long as the network fits in one place
    alone.

    Args:
        net: The network that is given the weights.
        path: The file: safetensors, or what torch.save wrote.
        whose: The group whose settings say what the network is, for messages: teacher or student.
        renamed: Gives the tensors of a place in the file under the names that the network has.

    Raises:
        UsageError: A missing, damaged or foreign file, or weights that are not finite.

    Examples:
        >>> import torch
        >>> from tempfile import TemporaryDirectory
        >>> from torch import nn
        >>> theirs, mine = nn.Linear(4, 2), nn.Linear(4, 2)
        >>> with TemporaryDirectory() as folder:
        ...     torch.save({"state_dict": theirs.state_dict()}, f"{folder}/net.pt")
        ...     load_weights(mine, f"{folder}/net.pt")
        >>> torch.equal(mine.weight, theirs.weight)
        True
    """
    path = Path(path)
    found = read_weights(path)
    places = {key: dict(renamed(tensors) if renamed else tensors) for key, tensors in places_in(found)}
    fitting = _fitting(places, net.state_dict())
    if not fitting:
        raise _unfit(path, found, places, net.state_dict(), whose)
    place = _EMA if _EMA in fitting else next(iter(fitting))
    state, others = fitting[place], [each for each in fitting.items() if each[0] != place and place != _EMA]
    if any(not _same(state, other) for _, other in others):
        raise UsageError(
            what=f"{path} holds several sets of weights that fit the network: {', '.join(map(_place, fitting))}",
            why="which of them is meant cannot be seen from the file",
            fix="torch.save(torch.load(PATH)[KEY], NEW_PATH) with the key that you mean, and that file",
        )
    if place != ("", ""):
        log.info("the weights in %s are those under %s", path, _place(place))
    if any("_orig_mod." in str(name) for inner in _mappings(found) for name in inner):
        log.info("the weights in %s are those of a compiled network: '_orig_mod.' is taken off", path)
    otherwise = "train" if whose == "teacher" else "null"
    infinite = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if infinite:
        raise UsageError(
            what=f"{path} has weights that are NaN or infinite: {len(infinite)} of {len(state)} tensors, "
            f"the first is {infinite[0]}",
            why="the training that left them diverged, or the file was written wrongly",
            fix=f"an earlier checkpoint of that training, or {whose}.weights={otherwise}",
        )
    net.load_state_dict(state)


_EMA = ("average.network", "net.")
"""Where a checkpoint of a training with `trainer.ema` has the weights that it is about."""


def places_in(found: Mapping[Any, Any], key: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Give every mapping of names to tensors in a file, by the dotted key that it lies under."""
    tensors = {str(name).replace("_orig_mod.", ""): value for name, value in found.items() if isinstance(value, Tensor)}
    if tensors:
        yield key, tensors
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield from places_in(value, f"{key}.{name}" if key else str(name))


def _mappings(found: Mapping[Any, Any]) -> Iterator[Mapping[Any, Any]]:
    yield found
    for value in found.values():
        if isinstance(value, Mapping):
            yield from _mappings(value)


def _fitting(
    places: Mapping[str, dict[str, Tensor]], own: Mapping[str, Tensor]
) -> dict[tuple[str, str], dict[str, Tensor]]:
    """Find the weights of a network, by the key and prefix that they lie under.

    What lies outside a prefix is another's (a loss, a teacher); without a prefix nothing may be left over.
    """
    first = next(iter(own), "")
    fitting = {}
    for key, tensors in places.items():
        prefixes = (name.removesuffix(first) for name in tensors if name.endswith(first))
        for prefix in (before for before in prefixes if before == "" or before.endswith(".")):
            state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            counts = {name: value for name, value in own.items() if name.endswith(".num_batches_tracked")}
            state = {**counts, **state} if not counts.keys() & state.keys() else state  # as before torch 0.4.1
            if state.keys() == own.keys() and all(own[name].shape == value.shape for name, value in state.items()):
                fitting[key, prefix] = state
    return fitting


def _same(state: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in state.items())


def _place(place: tuple[str, str]) -> str:
    key, prefix = place
    return " and ".join(
        [*([f"the key {key!r}"] if key else []), *([f"the prefix {prefix!r}"] if prefix else [])] or ["no key"]
    )


def _unfit(
    path: Path, found: Mapping[Any, Any], places: Mapping[str, dict[str, Tensor]], own: State, whose: str
) -> UsageError:
    """Say how the weights of a file differ from the network, in the place that has most in common with it."""
    if not places:
        return UsageError(
            what=f"{path} holds no tensors by name; it has the keys {_some(found)}",
            why="weights are a mapping from the names of a network's parameters to tensors",
            fix="torch.save(network.state_dict(), PATH), and that file",
        )
    key = max(places, key=lambda place: len(places[place].keys() & own.keys()))
    state = {name.removeprefix("module."): value for name, value in places[key].items()}
    missing, extra = [n for n in own if n not in state], [n for n in state if n not in own]
    shaped = [name for name in own if name in state and own[name].shape != state[name].shape]
    where = f" (under {key!r})" if key else ""
    what = (
        f"{path}{where} does not fit the network: of its {len(own)} tensors {len(missing)} are not in the file and "
        f"{len(shaped)} have another shape there; {len(extra)} of the file are not in the network"
    )
    if shaped:
        name = shaped[0]
        why = f"{name} is {list(state[name].shape)} in the file and {list(own[name].shape)} in the network"
    else:
        apart = {"the file alone has": extra, "the network alone has": missing}
        why = "; ".join(f"{who} {_some(names)}" for who, names in apart.items() if names)
    fix = "the architecture, its stem and the class count that these weights were trained with"
    if len(missing) == len(own):
        fix = "weights of this architecture, saved under the names that its state_dict() has"
    first = next(iter(own))
    if shaped and shaped[0] == first and own[first].ndim == 4 and own[first].shape[2:] != state[first].shape[2:]:
        stem = {3: "cifar", 7: "imagenet"}.get(state[first].shape[-1])
        fix = f"{whose}.stem={stem}, where the architecture has stems; {fix}" if stem else fix
    return UsageError(what=what, why=why, fix=fix)


def _some(names: Iterable[Any]) -> str:
    names = list(names)
    return ", ".join(repr(name) for name in names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def read_weights(path: str | Path) -> dict[str, Any]:
    """Read what a file of weights holds, tensors and what lies beside them, without running any code in it.

    Raises:
        UsageError: A missing or damaged file, or one that holds objects.
    """
    path = Path(path)
    _check_hash(path)
    return _read(path)


def _check_hash(path: Path) -> None:
    """Compare a file of weights with the hash in the card that we have written beside it."""
    card = path.with_suffix(".json")
    if not (path.is_file() and card.is_file()):
        return
    try:
        expected = json.loads(card.read_text()).get("sha256")
    except (ValueError, AttributeError):  # a card of somebody else's
        return
    if expected and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise _damaged(path, ValueError(f"its SHA-256 is not the one in {card.name}"))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(
            what=f"there is no file {path}",
            why="weights are read from it",
            fix="an existing file, torchvision:NAME, or `train` to train a teacher now",
        )
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        # The settings that training scripts keep beside the weights: a bag of values that runs nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError, TypeError, OSError, KeyError) as error:
        raise _damaged(path, error) from error
    except pickle.UnpicklingError as error:
        raise _more_than_tensors(path, error) from error
    except Exception as error:  # pickle's own errors have no common base
        raise _damaged(path, error) from error
    if not isinstance(found, Mapping):
        raise UsageError(
            what=f"{path} holds a {type(found).__name__}, not weights by name",
            why="weights are a mapping from the names of a network's parameters to tensors",
            fix="torch.save(network.state_dict(), PATH), and that file",
        )
    return dict(found)


def _more_than_tensors(path: Path, error: Exception) -> UsageError:
    """Name what stopped torch: a whole module, or an object beside the weights."""
    thing = re.search(r"GLOBAL ([\w.]+)", str(error))
    if thing is None:
        return _damaged(path, error)
    return UsageError(
        what=f"{path} holds more than tensors: {thing[1]}",
        why="a pickle with objects in it can run any code, so it is not opened; a whole saved module is one",
        fix="torch.save(network.state_dict(), PATH) where the network is at hand, and that file",
    )


def _damaged(path: Path, error: Exception) -> UsageError:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # torch colours what it says
    return UsageError(
        what=f"{path} cannot be read as weights: {text.splitlines()[0][:160] if text else type(error).__name__}",
        why="it is damaged, or it holds more than tensors (a pickle with code is never run)",
        fix="a fresh copy, saved as safetensors or as a state_dict",
    )
