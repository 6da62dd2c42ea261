"""The frozen ANN that a student learns from.

Legend: T time step, B image, C class, H, W.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tser_lightning.mistake import Mistake


class Teacher(nn.Module):
    """A network that never learns: no gradient, eval mode whatever `train()` says.

    Args:
        net: images [B,C,H,W] to logits [B,C].
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Images [B,C,H,W], or frames [T,B,C,H,W] whose mean the teacher sees, to logits_BC."""
        logits_BC: Tensor = self.net(images.mean(0) if images.ndim == 5 else images)
        return logits_BC

    def fingerprint(self) -> str:
        """Hash its parameters and buffers with SHA-256, as hex."""
        digest = hashlib.sha256()
        for name, value in self.net.state_dict().items():
            digest.update(f"{name} {list(value.shape)} {value.dtype} ".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()


class Once(nn.Module):
    """An ANN in a student's place: one time step, so that a teacher is trained and measured by the same code.

    Args:
        net: images [B,C,H,W] to logits [B,C].
    """

    timesteps = 1

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Give logits_TBC with T = 1."""
        logits_BC: Tensor = self.net(images_BCHW)
        return logits_BC.unsqueeze(0)


def load_weights(net: nn.Module, path: str | Path) -> None:
    """Load a file of weights into a network, strictly and without running any code in it.

    Reads safetensors, and torch files under `weights_only`, also where the weights lie under "state_dict" or "model".

    Raises:
        Mistake: A missing, damaged or foreign file.
    """
    path = Path(path)
    _check_hash(path)
    state = _read(path)
    for key in ("state_dict", "model"):
        if isinstance(state.get(key), dict):
            state = state[key]
    state = {name.removeprefix("module."): value for name, value in state.items()}
    own = net.state_dict()
    odd = sorted(
        name
        for name in own.keys() | state.keys()
        if name not in own or name not in state or own[name].shape != state[name].shape
    )
    if odd:
        raise Mistake(
            what=f"{path} does not fit the network: {len(odd)} of {len(own)} tensors differ, the first is {odd[0]}",
            why=f"the file has {_shape(state, odd[0])}, the network {_shape(own, odd[0])}",
            fix="the architecture, its stem and the class count that these weights were trained with",
        )
    net.load_state_dict(state)


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
        raise Mistake(
            what=f"there is no file {path}",
            why="weights are read from it",
            fix="an existing file, torchvision:NAME, or `train` to train a teacher now",
        )
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (SafetensorError, RuntimeError, EOFError, ValueError, TypeError, OSError, KeyError) as error:
        raise _damaged(path, error) from error
    except Exception as error:  # pickle's own errors have no common base
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> Mistake:
    return Mistake(
        what=f"{path} cannot be read as weights: {str(error).splitlines()[0][:160] if str(error) else type(error)}",
        why="it is damaged, or it holds more than tensors (a pickle with code is never run)",
        fix="a fresh copy, saved as safetensors or as a state_dict",
    )


def _shape(state: dict[str, Tensor], name: str) -> str:
    return f"{list(state[name].shape)} there" if name in state else "no such tensor"


def check_teacher(accuracy: float, num_classes: int, name: str) -> None:
    """Refuse a teacher that knows nothing.

    Args:
        accuracy: On images that it was not trained on, in percent.
        num_classes: C; chance is 100/C.
        name: For the message.

    Raises:
        Mistake: Accuracy below twice chance (below 1.2 times for two or three classes).
    """
    chance = 100.0 / num_classes
    if accuracy < chance * (2.0 if num_classes > 3 else 1.2):
        raise Mistake(
            what=f"the teacher {name} scores {accuracy:.1f} %, near chance ({chance:.1f} %)",
            why="usual causes: another input normalisation (data.mean, data.std), another order of the classes, "
            "weights of another network, a training that was too short or diverged",
            fix="task=evaluate on the teacher's own data, or teacher.weights=train",
        )
