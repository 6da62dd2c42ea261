"""What the rule of a sweep has decided about a run: `pruning.json` in its directory."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tser_lightning.atomic_io import first_process, write_json

FILE = "pruning.json"


@dataclass(frozen=True)
class Decision:
    """One decision.

    Attributes:
        epoch: How many epochs the run had done.
        accuracy: On validation images then, in percent.
        stop: Whether it ends there.
        why: In words.
    """

    epoch: int
    accuracy: float
    stop: bool
    why: str


def read_decisions(home: Path, rule: Mapping[str, Any]) -> list[Decision]:
    """Give what a rule has decided about the run of a directory; what another rule has decided counts for nothing."""
    try:
        content = json.loads((home / FILE).read_text())
        return [Decision(**each) for each in content["decisions"]] if content["rule"] == dict(rule) else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def write_decisions(home: Path, rule: Mapping[str, Any], decisions: Sequence[Decision]) -> None:
    """Write down what a rule, as the config group `prune` has it, has decided so far."""
    write_json(home / FILE, {"rule": dict(rule), "decisions": [asdict(each) for each in decisions]})


def forget_decisions(home: Path) -> None:
    """Let a run go on without a rule: what one has decided about it holds no more."""
    if first_process():
        (home / FILE).unlink(missing_ok=True)


def stop_of(home: Path, rule: Mapping[str, Any]) -> Decision | None:
    """Give the decision by which a rule has ended a run; None if it has not."""
    return next((each for each in read_decisions(home, rule) if each.stop), None)
