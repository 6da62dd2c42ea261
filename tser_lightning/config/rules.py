"""What a setting may be: known ranges and choices, else the type of its default."""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol


class Rule(Protocol):
    """What values a setting takes."""

    def accepts(self, value: Any) -> bool:
        """Tell whether a value will do."""

    def says(self) -> str:
        """Name what will do, to follow "is not"."""


@dataclass(frozen=True)
class Number:
    """A finite number in a range.

    Attributes:
        low: Smallest.
        high: Largest.
        above: Whether `low` itself is excluded.
        below: Whether `high` itself is excluded.
        whole: Whether it has to be an integer.
        words: What else will do, e.g. "auto", or None for null.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    whole: bool = False
    words: tuple[str | None, ...] = ()

    def accepts(self, value: Any) -> bool:
        """Tell whether a value will do."""
        if isinstance(value, str) or value is None:
            return value in self.words
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        if (isinstance(value, float) and not math.isfinite(value)) or (
            not self.whole and abs(value) > sys.float_info.max
        ):
            return False
        return (value > self.low if self.above else value >= self.low) and (
            value < self.high if self.below else value <= self.high
        )

    def says(self) -> str:
        """Name what will do."""
        kind = "a whole number" if self.whole else "a number"
        low = f"{'above' if self.above else 'from'} {self.low:g}" if self.low > -math.inf else ""
        high = f"{'below' if self.below else 'to'} {self.high:.10g}" if self.high < math.inf else ""
        words = "".join(f" or {word or 'null'}" for word in self.words)
        return " ".join(part for part in (kind, low, high) if part) + words


@dataclass(frozen=True)
class OneOf:
    """One of a few names."""

    names: tuple[str | None, ...]

    def accepts(self, value: Any) -> bool:
        """Tell whether a value will do."""
        return value in self.names if value is None or isinstance(value, str) else False

    def says(self) -> str:
        """Name what will do."""
        return "one of " + ", ".join(name or "null" for name in self.names)


@dataclass(frozen=True)
class ListOf:
    """A list whose items keep to one rule."""

    item: Rule
    length: int | None = None

    def accepts(self, value: Any) -> bool:
        """Tell whether a value will do."""
        return isinstance(value, list) and self.length in (None, len(value)) and all(map(self.item.accepts, value))

    def says(self) -> str:
        """Name what will do."""
        items = "each item" if self.length is None else f"each of its {self.length} items"
        return f"a list [...], {items} {self.item.says()}"


@dataclass(frozen=True)
class Text:
    """Any text."""

    null: bool = False

    def accepts(self, value: Any) -> bool:
        """Tell whether a value will do."""
        return (isinstance(value, str) and value != "") or (self.null and value is None)

    def says(self) -> str:
        """Name what will do."""
        return "text or null" if self.null else "text"


@dataclass(frozen=True)
class Switch:
    """True or false."""

    def accepts(self, value: Any) -> bool:
        """Tell whether a value will do."""
        return isinstance(value, bool)

    def says(self) -> str:
        """Name what will do."""
        return "true or false"


@dataclass(frozen=True)
class Anything:
    """What has no default to take a type from."""

    def accepts(self, value: Any) -> bool:
        """Tell whether a value will do."""
        return not isinstance(value, float) or math.isfinite(value)

    def says(self) -> str:
        """Name what will do."""
        return "a finite number"


@dataclass(frozen=True)
class Either:
    """What keeps to one of several rules."""

    rules: tuple[Rule, ...]

    def accepts(self, value: Any) -> bool:
        """Tell whether a value will do."""
        return any(each.accepts(value) for each in self.rules)

    def says(self) -> str:
        """Name what will do."""
        return " or ".join(each.says() for each in self.rules)


SHARE = Number(0, 1)
PART = Number(0, 1, below=True)
POSITIVE = Number(0, above=True)
NOT_NEGATIVE = Number(0)
COUNT = Number(1, 1_000_000, whole=True)
SEED = Number(0, 2**32 - 1, whole=True)

# What is not handed to a class that a config names, but read by this package: the same for a class of a user's own.
READ_HERE = ("student.timesteps", "student.weights", "teacher.seed", "teacher.weights")

# The first pattern that fits a dotted name holds. A setting that is not here is checked against its default's type.
RULES: Mapping[str, Rule] = {
    "seed": SEED,
    "teacher.seed": SEED,
    "run": Text(null=True),
    "trusted_modules": ListOf(Text()),
    "runs": Either((Text(), ListOf(Text()))),
    "data.num_classes": Number(2, 1_000_000, whole=True),
    "data.shape": ListOf(Number(1, 4096, whole=True), 3),
    "data.mean": ListOf(Number()),
    "data.std": ListOf(POSITIVE),
    "data.scale": ListOf(Number(0, 1, above=True), 2),
    "data.resize": Number(1, 8192, whole=True, words=(None,)),
    "data.validation": PART,
    "data.*batch_size": COUNT,
    "data.train_images": Number(1, whole=True),
    "data.test_images": Number(1, whole=True),
    "data.augment.auto": OneOf(("cifar10", "imagenet", "svhn", None)),
    "data.augment.crop": Number(0, 4096, whole=True),
    "data.augment.cutout": Number(0, 4096, whole=True),
    "data.path": Text(),
    "data.root": Text(),
    "teacher.weights": Text(null=True),
    "student.weights": Text(null=True),
    "teacher._target_": Text(null=True),
    "student.timesteps": Number(1, 1000, whole=True),
    "*.widths": ListOf(Number(1, 65536, whole=True)),
    "neuron.backend": OneOf(("auto", "eager", "compiled", "triton", "reference")),
    "neuron.reset": OneOf(("hard", "soft")),
    "neuron.surrogate": OneOf(("sigmoid", "atan", "triangle", "rectangular", "piecewise_quadratic", "tanh")),
    "student.attention": OneOf(("pfa", None)),
    "student.stem": OneOf(("cifar", "imagenet")),
    "teacher.stem": OneOf(("cifar", "imagenet")),
    "*.connect": OneOf(("add", "and", "iand")),
    "*.variant": OneOf(("group", "tet", "mpbn", "glif")),
    "neuron.decay": SHARE,
    "neuron.v_threshold": POSITIVE,
    "neuron.surrogate_scale": Number(0, above=True, words=(None,)),
    "norm.eps": POSITIVE,
    "norm.momentum": Number(0, 1, words=(None,)),
    "loss.mean": OneOf(("logits", "probs")),
    "loss.mode": OneOf(("joint", "response", "feature")),
    "loss.map": OneOf(("attention", "mse")),
    "loss.alpha": SHARE,
    "loss.lam": NOT_NEGATIVE,
    "loss.tau": POSITIVE,
    "loss.entropy_tau": POSITIVE,
    "loss.label_smoothing": PART,
    "*optim.lr": POSITIVE,
    "*optim.momentum": PART,
    "*optim.weight_decay": NOT_NEGATIVE,
    "*optim.betas": ListOf(PART, 2),
    "*schedule.warmup_epochs": NOT_NEGATIVE,
    "*schedule.final_lr": NOT_NEGATIVE,
    "selection": OneOf(("val", "last", "paper")),
    "trainer.precision": OneOf(("32-true", "bf16-mixed", "16-mixed")),
    "logging.wandb.mode": OneOf(("auto", "online", "offline", "disabled")),
    "machine.accelerator": OneOf(("auto", "cpu", "gpu", "cuda", "mps", "tpu")),
    "machine.memory": OneOf(("auto", "low", "lowest")),
    "trainer.epochs": COUNT,
    "teacher.training.epochs": COUNT,
    "trainer.accumulate": COUNT,
    "trainer.clip": Number(0, above=True, words=(None,)),
    "trainer.ema": Number(0, 1, above=True, below=True, words=(None,)),
    "trainer.validate_every": COUNT,
    "logging.every_n_steps": COUNT,
    "logging.wandb.tags": ListOf(Text()),
    "logging.wandb.entity": Text(null=True),
    "logging.wandb.group": Text(null=True),
    "wandb.workspace": Text(null=True),
    "machine.compile": Either((Switch(), OneOf(("reduce-overhead",)))),
    "machine.devices": Either((Number(1, whole=True, words=("auto",)), ListOf(Number(0, whole=True)))),
    "machine.checkpoint_every": Number(1, whole=True, words=(None,)),
    "machine.slots": Number(1, 1024, whole=True, words=("auto",)),
    "machine.teacher_cache": Number(0, whole=True),
    "machine.threads": Number(1, 1024, whole=True, words=("auto",)),
    "machine.workers": Number(0, 1024, whole=True, words=("auto",)),
    "debug.steps": Number(1, whole=True, words=(None,)),
}


def rule(key: str, default: Any, ours: bool = True) -> Rule:
    """Give what a setting may be.

    Args:
        key: Its dotted name, e.g. "loss.tau".
        default: Its value in the config file.
        ours: Whether it belongs to one of this package's classes; the settings of a user's own class have no ranges.
    """
    known = next((found for pattern, found in RULES.items() if fnmatchcase(key, pattern)), None)
    if not ours and key not in READ_HERE:
        known = None
    return known or _like(default, ours)


def _like(default: Any, ours: bool) -> Rule:
    if default is None or default == "???":
        return Anything()
    if isinstance(default, bool):
        return Switch()
    if isinstance(default, int | float):
        return Number(whole=isinstance(default, int) and ours)
    if isinstance(default, list):
        kinds = {type(item) for item in default}
        return ListOf(_like(default[0], ours) if len(kinds) == 1 else Anything())
    return Text()
